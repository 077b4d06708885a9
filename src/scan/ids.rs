//! Counts an id in ids that no thread writes, with the same vectors: those of an image, and copies of
//! entries.

use super::generic::Vector;
use super::{MAX_ENTRIES, scalar};

/// Returns the number of `ids` that are `id`.
///
/// # Safety
///
/// The processor must have the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn count<V: Vector>(ids: &[u16], id: u16) -> u64 {
    const { assert!(MAX_ENTRIES / V::ENTRIES <= u16::MAX as usize) };
    let to_boundary = ids.as_ptr().addr().wrapping_neg() % size_of::<V>() / size_of::<u16>();
    let (head, rest) = ids.split_at(to_boundary.min(ids.len()));
    let (body, tail) = rest.split_at(rest.len() / V::ENTRIES * V::ENTRIES);
    // SAFETY: the caller vouches for the instructions.
    let wanted = unsafe { V::splat(id) };
    let mut count = scalar::count_ids(head, id) + scalar::count_ids(tail, id);
    // A lane of 16 bits can count the matches of one piece, not more.
    for piece in body.chunks(MAX_ENTRIES) {
        // SAFETY: the caller vouches for the instructions.
        let mut counts = unsafe { V::splat(0) };
        for vector in piece.chunks_exact(V::ENTRIES) {
            // SAFETY: a vector of the slice, at a boundary. The slice is borrowed, so no thread writes it.
            let vector = unsafe { V::load(vector.as_ptr().cast()) };
            counts = counts.one_more_where(vector.equal(wanted));
        }
        count += u64::from(counts.sum_lanes());
    }
    count
}

#[cfg(test)]
mod tests {
    use crate::scan::{Backend, MAX_ENTRIES, copy, count_ids};
    use crate::sync::{AtomicU16, Ordering};
    use std::vec;
    use std::vec::Vec;

    fn backends() -> impl Iterator<Item = Backend> {
        let all = Backend::ALL.iter().copied();
        all.filter(|backend| backend.is_available())
    }

    #[test]
    fn ids_are_counted_wherever_a_slice_begins_and_ends() {
        const LEN: usize = if cfg!(miri) { 90 } else { 400 };
        let mut random = fastrand::Rng::with_seed(8);
        let all: Vec<u16> = (0..LEN).map(|_| random.u16(..3)).collect();
        for backend in backends() {
            for _ in 0..if cfg!(miri) { 20 } else { 2_000 } {
                let start = random.usize(..=LEN.min(70));
                let end = random.usize(start..=LEN);
                let ids = &all[start..end];
                let wanted = ids.iter().filter(|&&id| id == 2).count() as u64;
                assert_eq!(
                    count_ids(backend, ids, 2),
                    wanted,
                    "{backend}, {start}..{end}"
                );
            }
        }
    }

    /// The slice has more ids than a lane of 16 bits can count, in the slowest backend.
    #[test]
    #[cfg_attr(miri, ignore = "a slice of a megabyte")]
    fn any_number_of_ids_is_counted() {
        for len in [MAX_ENTRIES, 9 * MAX_ENTRIES + 5] {
            let ids = vec![7; len];
            for backend in backends() {
                assert_eq!(count_ids(backend, &ids, 7), len as u64, "{backend}");
                assert_eq!(count_ids(backend, &ids, 0), 0, "{backend}");
            }
        }
    }

    #[test]
    fn entries_are_copied_to_the_front() {
        let entries = [3, 0, 9].map(AtomicU16::new);
        let mut ids = [1; 5];
        // SAFETY: no other thread knows these entries.
        unsafe { copy(&entries, &mut ids) };
        assert_eq!(ids, [3, 0, 9, 1, 1]);
        assert_eq!(entries[2].load(Ordering::Relaxed), 9);
    }
}
