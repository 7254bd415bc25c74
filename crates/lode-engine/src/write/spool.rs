//! Batches kept for a second reading: in memory up to a limit, then in a file of their own.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use lode_core::{ErrorKind, Place, Problem};

use crate::problem;

const HELD_BYTES: usize = 128 << 20;

/// First written, then read once in the same order. Blocking.
pub(crate) struct Spool<'a> {
    folder: &'a Path,
    held: Vec<RecordBatch>,
    held_bytes: usize,
    file: Option<StreamWriter<BufWriter<File>>>,
}

impl<'a> Spool<'a> {
    pub(crate) fn new(folder: &'a Path) -> Self {
        Self { folder, held: Vec::new(), held_bytes: 0, file: None }
    }

    pub(crate) fn push(&mut self, batch: RecordBatch) -> Result<(), Problem> {
        if let Some(file) = &mut self.file {
            return file.write(&batch).map_err(|error| problem::arrow(&error));
        }
        self.held_bytes += batch.get_array_memory_size();
        self.held.push(batch);
        if self.held_bytes > HELD_BYTES { self.spill() } else { Ok(()) }
    }

    fn spill(&mut self) -> Result<(), Problem> {
        let Some(first) = self.held.first() else { return Ok(()) };
        let file = self.unnamed_file()?;
        let mut writer =
            StreamWriter::try_new(BufWriter::new(file), &first.schema()).map_err(|error| problem::arrow(&error))?;
        for batch in self.held.drain(..) {
            writer.write(&batch).map_err(|error| problem::arrow(&error))?;
        }
        self.file = Some(writer);
        Ok(())
    }

    /// A file whose name is taken away at once, so that nothing is left behind by a crash.
    fn unnamed_file(&self) -> Result<File, Problem> {
        let path = self.folder.join(format!("merge-{}.arrow", uuid::Uuid::new_v4().simple()));
        let open = || {
            std::fs::create_dir_all(self.folder)?;
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        };
        open().map_err(|error: std::io::Error| {
            let kind =
                if error.kind() == std::io::ErrorKind::StorageFull { ErrorKind::Full } else { ErrorKind::Unavailable };
            Problem::new(kind, "could not spill rows to disk")
                .cause(error)
                .at(Place::of(path.display().to_string()))
                .fix("make room in the data folder's `tmp`")
        })
    }

    /// The batches, in the order in which they came.
    pub(crate) fn replay(self) -> Result<Box<dyn Iterator<Item = Result<RecordBatch, Problem>> + Send>, Problem> {
        let Some(mut writer) = self.file else { return Ok(Box::new(self.held.into_iter().map(Ok))) };
        writer.finish().map_err(|error| problem::arrow(&error))?;
        let buffered = writer.into_inner().map_err(|error| problem::arrow(&error))?;
        let io =
            |error: std::io::Error| Problem::new(ErrorKind::Unavailable, "could not read spilled rows").cause(error);
        let mut file = buffered.into_inner().map_err(|error| io(error.into_error()))?;
        file.seek(SeekFrom::Start(0)).map_err(io)?;
        let reader = StreamReader::try_new(BufReader::new(file), None).map_err(|error| problem::arrow(&error))?;
        Ok(Box::new(reader.map(|batch| batch.map_err(|error| problem::arrow(&error)))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    #[test]
    fn spilled_batches_come_back_in_order_and_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("x", DataType::Int64, true)]));
        let batch = |from: i64| {
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from_iter_values(from..from + 3))])
                .unwrap()
        };
        let mut spool = Spool::new(folder.path());
        spool.push(batch(0)).unwrap();
        spool.spill().unwrap();
        spool.push(batch(3)).unwrap();
        let back: Vec<RecordBatch> = spool.replay().unwrap().map(Result::unwrap).collect();
        assert_eq!(back, [batch(0), batch(3)]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
