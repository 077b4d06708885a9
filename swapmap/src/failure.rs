//! Exit codes: [`Answer`] and [`Failure`], the two ways in which a command ends.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use swap_records::image::ImageError;
use swapmap::names::shown;

/// The exit codes, for the help and the man page.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done; `diff`: no difference; `verify`: no fault
  1  `diff` found a difference, or `verify` found a fault
  2  wrong usage
  3  something could not be read or written: a file, a damaged image, standard output, or this
     machine's swap. `verify` checks all other files first";

/// The result of a command that did what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Done,
    /// `diff` found a difference, or `verify` a fault.
    No,
    /// Some of several files could not be read, which has been reported. All others have been checked.
    Unread,
}

impl From<Answer> for ExitCode {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done => Self::from(0),
            Answer::No => Self::from(1),
            Answer::Unread => Self::from(3),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments ask for something impossible.
    Usage(String),
    /// A file, a damaged image, or the machine. The text says what to do.
    Refused(String),
    /// A write to standard output failed.
    Output(io::Error),
}

impl Failure {
    /// Returns an error of an image, with the name of its file.
    pub(crate) fn image(path: &Path, mut error: ImageError) -> Self {
        match &mut error {
            // These errors name a file. They show its name as `Path::display` does, so they get an escaped
            // one.
            ImageError::Io {
                path: Some(name), ..
            }
            | ImageError::Locked { path: name }
            | ImageError::InTheWay { path: name, .. } => {
                *name = shown(name).into();
                Self::Refused(error.to_string())
            }
            _ => Self::Refused(format!("{}: {error}", shown(path))),
        }
    }

    pub(crate) fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let mut text = format!("cannot {doing} {}: {error}", shown(path));
        if error.kind() == io::ErrorKind::StorageFull {
            text += "; no file was replaced: free some space, and try again";
        }
        Self::Refused(text)
    }

    /// Returns whether the reader of a pipe has ended, which is not reported.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Prints the failure on standard error.
    pub(crate) fn say(&self) {
        use io::Write as _;
        // If this fails too, there is no other place for the text.
        let _ = writeln!(io::stderr(), "swapmap: {self}");
    }

    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Refused(_) | Self::Output(_) => ExitCode::from(3),
        }
    }
}

impl From<io::Error> for Failure {
    /// Takes an error of a write to standard output. Errors of files are converted by [`Failure::io`].
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Refused(text) => f.write_str(text),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
        }
    }
}
