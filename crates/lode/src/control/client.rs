//! Running a command in the process that holds the data folder.

use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use lode_core::{ErrorKind, Problem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

use super::{FRAME_BYTES_MAX, FrameKind, Message, Request, short_name};
use crate::config::Surroundings;
use crate::output::Output;

/// Connects to a running `lode up`; `None` when none serves this data folder.
pub(crate) fn connect(socket: &Path) -> Option<UnixStream> {
    let (path, _handle) = short_name(socket).ok()?;
    UnixStream::connect(path).ok()
}

/// How a forwarded command ended.
pub(crate) enum Forwarded {
    /// Exit code.
    Done(u8),
    /// The server went away before it answered anything: the command did not start.
    NotStarted,
}

/// Sends the command over and passes its output on. Ctrl-C cancels it there.
pub(crate) fn forward(
    stream: UnixStream,
    argv: &[String],
    around: &Surroundings,
    piped_in: Option<String>,
    out: &Output,
) -> Result<Forwarded, Problem> {
    let request = Request {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        argv: argv.to_vec(),
        cwd: around.cwd.clone(),
        env: around.env.clone(),
        terminal: out.terminal(),
        piped_in,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::internal("the runtime could not start").cause(error))?;
    runtime.block_on(run(stream, &request, out))
}

/// Reads what is piped in, for commands that take a statement that way. Errors: `Data` when it is not UTF-8.
pub(crate) fn read_piped(limit_bytes: u64) -> Result<Option<String>, Problem> {
    if io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut text = String::new();
    io::stdin().take(limit_bytes + 1).read_to_string(&mut text).map_err(|error| {
        Problem::new(ErrorKind::Data, "could not read the statement from the input")
            .cause(error)
            .fix("pipe in UTF-8 text")
    })?;
    if text.len() as u64 > limit_bytes {
        return Err(Problem::new(ErrorKind::Usage, format!("the statement is longer than {limit_bytes} bytes"))
            .fix("land the data with `lode ingest` and query it"));
    }
    Ok(Some(text))
}

async fn run(stream: UnixStream, request: &Request, out: &Output) -> Result<Forwarded, Problem> {
    let lost = |error: io::Error| {
        Problem::new(ErrorKind::Unavailable, "the connection to `lode up` was lost")
            .cause(error)
            .fix("run the command again")
    };
    stream.set_nonblocking(true).map_err(lost)?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(lost)?;
    let (mut from, mut to) = stream.into_split();
    let mut line =
        serde_json::to_vec(request).map_err(|error| Problem::internal("a request has no JSON form").cause(error))?;
    line.push(b'\n');
    if to.write_all(&line).await.is_err() {
        return Ok(Forwarded::NotStarted);
    }
    let mut interrupts = signal(SignalKind::interrupt()).map_err(lost)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(lost)?;
    let mut resizes = signal(SignalKind::window_change()).map_err(lost)?;
    let mut frames = Frames { buffer: Vec::new() };
    let (mut has_answered, mut was_interrupted) = (false, false);
    loop {
        let message = tokio::select! {
            frame = frames.next(&mut from) => match frame {
                Ok(Some((FrameKind::Exit, payload))) => {
                    out.flush()?;
                    return Ok(Forwarded::Done(payload.first().copied().unwrap_or(70)));
                }
                Ok(Some((FrameKind::Out, payload))) => {
                    has_answered = true;
                    out.data(&payload)?;
                    if out.terminal().out_is_terminal {
                        out.flush()?;
                    }
                    continue;
                }
                Ok(Some((FrameKind::Err, payload))) => {
                    has_answered = true;
                    out.raw_err(&payload);
                    continue;
                }
                Ok(None) if !has_answered => return Ok(Forwarded::NotStarted),
                Ok(None) => {
                    return Err(Problem::new(ErrorKind::Unavailable, "`lode up` ended before the command was done")
                        .fix("see whether it took effect (`lode status`, `lode table history`), then run it again"));
                }
                Err(error) => return Err(lost(error)),
            },
            _ = interrupts.recv() => Message::Interrupt,
            _ = terminations.recv() => Message::Interrupt,
            _ = resizes.recv() => {
                let (width, height) = out.size();
                Message::Resize(width, height)
            }
        };
        if matches!(message, Message::Interrupt) && std::mem::replace(&mut was_interrupted, true) {
            return Ok(Forwarded::Done(ErrorKind::Interrupted.exit_code()));
        }
        let mut line = serde_json::to_vec(&message).unwrap_or_default();
        line.push(b'\n');
        let sent = tokio::time::timeout(Duration::from_secs(2), to.write_all(&line)).await;
        if !matches!(sent, Ok(Ok(()))) && was_interrupted {
            return Ok(Forwarded::Done(ErrorKind::Interrupted.exit_code()));
        }
    }
}

struct Frames {
    buffer: Vec<u8>,
}

impl Frames {
    /// The next frame; `None` at the end. Cancel-safe: what was read stays in the buffer.
    async fn next(&mut self, from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Option<(FrameKind, Vec<u8>)>> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(Some(frame));
            }
            let mut chunk = [0_u8; 16 << 10];
            let count = from.read(&mut chunk).await?;
            if count == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }

    fn take(&mut self) -> io::Result<Option<(FrameKind, Vec<u8>)>> {
        let Some((head, rest)) = self.buffer.split_at_checked(5) else { return Ok(None) };
        let &[code, a, b, c, d] = head else { return Ok(None) };
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "a frame that is none of ours");
        let kind = FrameKind::of(code).filter(|_| length <= FRAME_BYTES_MAX).ok_or_else(bad)?;
        let Some(payload) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
        self.buffer.drain(..5 + length);
        Ok(Some((kind, payload)))
    }
}

/// Writes one stream of a command as frames. Blocks while the client does not read.
pub(super) struct FrameWriter {
    stream: std::sync::Arc<parking_lot::Mutex<UnixStream>>,
    kind: FrameKind,
    buffer: Vec<u8>,
}

impl FrameWriter {
    pub(super) fn new(stream: std::sync::Arc<parking_lot::Mutex<UnixStream>>, kind: FrameKind) -> Self {
        Self { stream, kind, buffer: Vec::new() }
    }
}

impl Write for FrameWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= FRAME_BYTES_MAX / 2 {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        let mut stream = self.stream.lock();
        for chunk in buffer.chunks(FRAME_BYTES_MAX) {
            send_frame(&mut stream, self.kind, chunk)?;
        }
        Ok(())
    }
}

pub(super) fn send_frame(stream: &mut UnixStream, kind: FrameKind, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = Vec::with_capacity(payload.len() + 5);
    frame.push(kind.code());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(payload);
    stream.write_all(&frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_from_any_chunks() {
        let (mut a, b) = UnixStream::pair().unwrap();
        send_frame(&mut a, FrameKind::Out, b"hello").unwrap();
        send_frame(&mut a, FrameKind::Exit, &[3]).unwrap();
        drop(a);
        let mut bytes = Vec::new();
        (&b).read_to_end(&mut bytes).unwrap();
        let mut frames = Frames { buffer: Vec::new() };
        let mut got = Vec::new();
        for byte in bytes {
            frames.buffer.push(byte);
            got.extend(frames.take().unwrap());
        }
        assert_eq!(got, [(FrameKind::Out, b"hello".to_vec()), (FrameKind::Exit, vec![3])]);
    }

    #[test]
    fn a_frame_of_impossible_length_is_refused() {
        let mut frames = Frames { buffer: vec![1, 255, 255, 255, 255] };
        assert!(frames.take().is_err());
    }
}
