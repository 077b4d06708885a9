//! What a program needs that uses no standard library, no libc, and only two system calls: to exit, and to
//! write a line.
//!
//! A program has a function `run`, which returns its exit code, and a global allocator: [`Bump`], or its own.
//! Linux on x86-64 loads and starts the program.

#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::{asm, naked_asm};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

unsafe extern "Rust" {
    /// The function of the program.
    safe fn run() -> u8;
}

/// The exit code after a panic.
pub const PANICKED: u8 = 101;

/// Where the program begins. The stack pointer is a multiple of 16 here. In a function that was called, it is
/// not.
#[unsafe(no_mangle)]
#[unsafe(naked)]
extern "C" fn _start() -> ! {
    naked_asm!("xor ebp, ebp", "call {begin}", "ud2", begin = sym begin)
}

extern "C" fn begin() -> ! {
    exit(run())
}

/// Ends the program.
#[cold]
#[inline(never)]
pub fn exit(code: u8) -> ! {
    // SAFETY: the call `exit_group` does not return.
    unsafe { asm!("syscall", in("rax") 231, in("rdi") u64::from(code), options(noreturn)) }
}

/// Writes text to the standard output, as far as it can be written.
#[inline(never)]
pub fn write(text: &str) {
    // SAFETY: the call `write` reads the bytes of `text`, and changes no memory. The instruction overwrites `rcx` and `r11`.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") 1_u64 => _,
            in("rdi") 1_u64,
            in("rsi") text.as_ptr(),
            in("rdx") text.len(),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack, readonly),
        );
    }
}

/// Ends the program with this code unless `holds`. There is no message, which would be most of the program's
/// text.
#[inline]
pub fn check(holds: bool, code: u8) {
    if !holds {
        exit(code);
    }
}

#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    exit(PANICKED)
}

/// Allocates pieces of an array, one after another. Memory that is freed is not used again.
pub struct Bump {
    memory: UnsafeCell<[u8; Self::BYTES]>,
    used: AtomicUsize,
}

impl Bump {
    const BYTES: usize = 16 << 20;

    /// An allocator whose memory is all unused, for a `static`.
    #[expect(
        clippy::new_without_default,
        clippy::large_stack_arrays,
        reason = "it is a static, and never on a stack"
    )]
    pub const fn new() -> Self {
        Self {
            memory: UnsafeCell::new([0; Self::BYTES]),
            used: AtomicUsize::new(0),
        }
    }
}

// SAFETY: `memory` is only used through pieces, each of which belongs to one caller.
unsafe impl Sync for Bump {}

// SAFETY: each piece belongs to one caller. `used` only grows, by compare-exchange, and a piece lies between
// two of its values, within `memory`.
unsafe impl GlobalAlloc for Bump {
    /// Not inlined, as in a kernel, so that the callers are not larger.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.memory.get().addr();
        let begin = |used: usize| (base + used).next_multiple_of(layout.align()) - base;
        let claim = self.used.fetch_update(Relaxed, Relaxed, |used| {
            let end = begin(used).checked_add(layout.size())?;
            (end <= Self::BYTES).then_some(end)
        });
        claim.map_or(ptr::null_mut(), |used| {
            self.memory.get().cast::<u8>().wrapping_add(begin(used))
        })
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}

    /// No piece is given out twice, so it is zero already.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { self.alloc(layout) }
    }
}
