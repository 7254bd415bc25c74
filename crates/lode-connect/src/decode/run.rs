//! One reader, some workers: blocks of a file to its sinks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use lode_core::Problem;
use parking_lot::Mutex;

use super::blocks::{Block, BlockReader, Boundary};
use super::{Decoded, DecodedSink, FileError, Undeclared};

/// Turns the blocks of one file into rows.
pub(super) trait BlockDecoder: Sync {
    fn decode(&self, block: Block) -> Result<Decoded, Problem>;
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) rows: AtomicU64,
    pub(super) rejects: AtomicU64,
    /// Rejects that could not be read at all.
    pub(super) unreadable: AtomicU64,
    /// Rows with something in `_rescued`.
    pub(super) rescued: AtomicU64,
    pub(super) undeclared: Mutex<Undeclared>,
}

/// A reading of a tally.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) rejects: u64,
    pub(super) unreadable: u64,
    pub(super) rescued: u64,
}

impl Tally {
    pub(super) fn read(&self) -> Counts {
        Counts {
            rows: self.rows.load(Ordering::Relaxed),
            rejects: self.rejects.load(Ordering::Relaxed),
            unreadable: self.unreadable.load(Ordering::Relaxed),
            rescued: self.rescued.load(Ordering::Relaxed),
        }
    }

    /// Counts a block and hands it over.
    pub(super) fn give(
        &self,
        mut decoded: Decoded,
        entry: Option<&Arc<str>>,
        sink: &mut (dyn DecodedSink + '_),
    ) -> Result<(), Problem> {
        self.rows.fetch_add(decoded.batch.num_rows() as u64, Ordering::Relaxed);
        self.rejects.fetch_add(decoded.rejects.len() as u64, Ordering::Relaxed);
        let unreadable = decoded.rejects.iter().filter(|reject| reject.rule == "decode").count();
        self.unreadable.fetch_add(unreadable as u64, Ordering::Relaxed);
        if let Some(rescued) = decoded.batch.column_by_name(super::RESCUED) {
            self.rescued.fetch_add((rescued.len() - rescued.null_count()) as u64, Ordering::Relaxed);
        }
        decoded.entry = entry.cloned();
        sink.accept(decoded)
    }
}

/// Decodes what is left in `blocks`. A file of one block is decoded on the caller's thread.
pub(super) fn run(
    blocks: &mut BlockReader<'_>,
    boundary: &dyn Boundary,
    skip: usize,
    decoder: &dyn BlockDecoder,
    entry: Option<&Arc<str>>,
    sinks: &mut [Box<dyn DecodedSink + '_>],
    tally: &Tally,
) -> Result<(), FileError> {
    let Some(first) = blocks.next(boundary, skip)? else { return Ok(()) };
    if first.is_last {
        let Some(sink) = sinks.first_mut() else { return Err(no_sink()) };
        return decoder
            .decode(first)
            .and_then(|decoded| tally.give(decoded, entry, sink.as_mut()))
            .map_err(FileError::Sink);
    }
    if sinks.is_empty() {
        return Err(no_sink());
    }
    // Full: the reader waits. One block a worker waits here, one is being decoded.
    let (sender, receiver) = sync_channel::<Block>(sinks.len());
    let receiver = Mutex::new(receiver);
    let failure: Mutex<Option<Problem>> = Mutex::new(None);
    let has_failed = AtomicBool::new(false);
    let read = std::thread::scope(|scope| {
        for sink in sinks.iter_mut() {
            let (receiver, failure, has_failed) = (&receiver, &failure, &has_failed);
            let work = move || {
                while let Some(block) = take(receiver) {
                    if has_failed.load(Ordering::Relaxed) {
                        continue;
                    }
                    let done = decoder.decode(block).and_then(|decoded| tally.give(decoded, entry, sink.as_mut()));
                    if let Err(problem) = done {
                        has_failed.store(true, Ordering::Relaxed);
                        failure.lock().get_or_insert(problem);
                    }
                }
            };
            if let Err(error) = std::thread::Builder::new().name("decode".into()).spawn_scoped(scope, work) {
                drop(sender);
                return Err(FileError::Io(Problem::internal("could not start a decoding thread").cause(error)));
            }
        }
        let mut next = Some(first);
        while let Some(block) = next {
            if has_failed.load(Ordering::Relaxed) || sender.send(block).is_err() {
                break;
            }
            next = blocks.next(boundary, 0)?;
        }
        drop(sender);
        Ok(())
    });
    match failure.into_inner() {
        Some(problem) => Err(FileError::Sink(problem)),
        None => read,
    }
}

fn take(receiver: &Mutex<Receiver<Block>>) -> Option<Block> {
    receiver.lock().recv().ok()
}

fn no_sink() -> FileError {
    FileError::Sink(Problem::internal("a file was decoded without a sink"))
}
