//! The control socket: later commands run inside the `lode up` that holds the data folder.
//!
//! A client sends one JSON line (`Request`), then may send more lines (`Message`). The server answers with frames: one
//! byte of kind, four bytes of length (little-endian), and that many bytes. The last frame is the exit code.

pub(crate) mod client;
pub(crate) mod server;

use std::path::{Path, PathBuf};

use lode_core::config::Environment;
use serde::{Deserialize, Serialize};

use crate::output::Terminal;

/// Longest request line; a statement piped in is part of it.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Longest frame.
const FRAME_BYTES_MAX: usize = 64 << 10;

#[derive(Serialize, Deserialize)]
struct Request {
    /// Both sides must be of one version.
    version: String,
    /// Without the program's name.
    argv: Vec<String>,
    cwd: PathBuf,
    /// All variables of the client: which of them a project asks for shows only while its templates are rendered. The
    /// socket is open to this user alone, who may read them anyway; they are dropped with the command.
    env: Environment,
    terminal: Terminal,
    piped_in: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    Interrupt,
    Resize(u16, u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Out,
    Err,
    /// One byte: the exit code.
    Exit,
}

impl FrameKind {
    const fn code(self) -> u8 {
        match self {
            Self::Out => 1,
            Self::Err => 2,
            Self::Exit => 3,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Out),
            2 => Some(Self::Err),
            3 => Some(Self::Exit),
            _ => None,
        }
    }
}

/// A name of the socket that fits the 107 bytes of the system's address: a long path is reached through its folder's
/// open handle. Keep the handle while the name is used.
fn short_name(socket: &Path) -> std::io::Result<(PathBuf, Option<std::fs::File>)> {
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    if socket.as_os_str().as_bytes().len() <= 100 {
        return Ok((socket.to_path_buf(), None));
    }
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    let handle = std::fs::File::open(folder)?;
    let path = Path::new("/proc/self/fd").join(handle.as_raw_fd().to_string()).join(name);
    Ok((path, Some(handle)))
}
