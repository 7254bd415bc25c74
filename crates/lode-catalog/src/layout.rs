//! Names of what the catalog keeps in the lake, below `_lode/`.

use lode_core::{Epoch, PipelineId};
use lode_lake::StorePath;

pub(crate) fn owner() -> StorePath {
    StorePath::from("_lode/owner.json")
}

/// Copies of the metadata DB.
pub(crate) fn backups() -> StorePath {
    StorePath::from("_lode/meta")
}

pub(crate) fn pipelines() -> StorePath {
    StorePath::from("_lode/pipelines")
}

pub(crate) fn pipeline(id: PipelineId) -> StorePath {
    StorePath::from(format!("_lode/pipelines/{id}"))
}

/// The descriptor that is written once, when the pipeline is made.
pub(crate) fn descriptor(id: PipelineId) -> StorePath {
    StorePath::from(format!("_lode/pipelines/{id}/pipeline.json"))
}

/// The n-th new name of a pipeline, counted from 1.
pub(crate) fn renamed(id: PipelineId, number: u32) -> StorePath {
    StorePath::from(format!("_lode/pipelines/{id}/renamed-{number:04}.json"))
}

/// Twenty digits, as in a Delta log, so that names sort like numbers and a listing can begin behind one.
pub(crate) fn seal(id: PipelineId, epoch: Epoch) -> StorePath {
    StorePath::from(format!("_lode/pipelines/{id}/{:020}.json", epoch.0))
}

/// What a file below `_lode/pipelines/` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PipelineFile {
    Descriptor,
    Renamed(u32),
    Seal(Epoch),
}

/// Reads a path below `_lode/pipelines/`; `None` for what is not ours.
pub(crate) fn read_pipeline_file(path: &StorePath) -> Option<(PipelineId, PipelineFile)> {
    let mut parts = path.as_ref().strip_prefix("_lode/pipelines/")?.split('/');
    let (id, name) = (parts.next()?.parse().ok()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let stem = name.strip_suffix(".json")?;
    let file = if stem == "pipeline" {
        PipelineFile::Descriptor
    } else if let Some(number) = stem.strip_prefix("renamed-") {
        PipelineFile::Renamed(number.parse().ok()?)
    } else {
        PipelineFile::Seal(Epoch(stem.parse().ok().filter(|number| *number > 0)?))
    };
    Some((id, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_back() {
        let id = PipelineId::random();
        assert_eq!(read_pipeline_file(&seal(id, Epoch(12))), Some((id, PipelineFile::Seal(Epoch(12)))));
        assert_eq!(read_pipeline_file(&descriptor(id)), Some((id, PipelineFile::Descriptor)));
        assert_eq!(read_pipeline_file(&renamed(id, 3)), Some((id, PipelineFile::Renamed(3))));
        assert_eq!(read_pipeline_file(&StorePath::from("_lode/pipelines/x/1.json")), None);
    }

    #[test]
    fn seals_sort_by_epoch() {
        let id = PipelineId::random();
        assert!(seal(id, Epoch(9)) < seal(id, Epoch(10)));
    }
}
