//! Answers of buckets that are errors, in words: what they mean and what to do.

use lode_core::ErrorKind;
use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use crate::LakeError;
use crate::store::StoreLocation;

/// In answers that refuse whoever asks, not what is asked. The last is Azurite's, whose code is that of a firewall.
const WRONG_KEY: [&str; 6] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "AuthenticationFailed",
    "ExpiredToken",
    "InvalidToken",
    "Server failed to authenticate the request",
];

/// The first answer of a store, when it is an error, in words: what it means and what to do.
pub(in crate::store) fn explain(location: &StoreLocation, endpoint: &str, error: LakeError) -> LakeError {
    let (kind, source) = match error {
        LakeError::Store { kind, source, .. } => (kind, Some(source)),
        LakeError::NotFound { .. } => (ErrorKind::NotFound, None),
        other => return other,
    };
    let text = chain(source.as_deref());
    let bucket = location.bucket();
    let (kind, reason, fix) = if kind == ErrorKind::NotFound {
        (
            ErrorKind::NotFound,
            format!("there is no bucket \"{bucket}\" at {endpoint}"),
            "make the bucket, or correct its name, the region or the endpoint".to_owned(),
        )
    } else if source.as_deref().is_some_and(nobody_there) {
        (
            ErrorKind::Unavailable,
            format!("nothing answers at {endpoint}"),
            "correct the endpoint or the region, or see whether this machine can reach it".to_owned(),
        )
    } else if text.contains("Received redirect") || text.contains("PermanentRedirect") {
        (
            ErrorKind::Config,
            format!("the bucket \"{bucket}\" lies in another region than {endpoint}"),
            "set the option `region` (or AWS_REGION) to that of the bucket".to_owned(),
        )
    } else if kind == ErrorKind::Denied || ["ExpiredToken", "InvalidToken"].iter().any(|code| text.contains(code)) {
        let wrong_key = WRONG_KEY.into_iter().find(|code| text.contains(code));
        match wrong_key {
            Some(code) => {
                (ErrorKind::Denied, format!("its credentials are refused ({code})"), "renew or correct them".to_owned())
            }
            None => (
                ErrorKind::Denied,
                format!("access to the bucket \"{bucket}\" is denied"),
                "give these credentials the right to read, write, list and delete below that prefix".to_owned(),
            ),
        }
    } else if kind == ErrorKind::Unsupported || text.contains("501 Not Implemented") {
        (
            ErrorKind::Unsupported,
            "it does not know a put that must not replace anything (If-None-Match: *)".to_owned(),
            "take a store that does: two writers would overwrite each other's commits here".to_owned(),
        )
    } else {
        (
            kind,
            format!("it answered with an error at {endpoint}"),
            "see the cause; if it passes by itself, run the command again".to_owned(),
        )
    };
    LakeError::Open { store: location.to_string(), kind, reason, fix, source }
}

/// Whether no connection came about: the wrong host, or the wrong port.
fn nobody_there(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return matches!(http.kind(), HttpErrorKind::Connect | HttpErrorKind::Timeout);
        }
        cause = error.source();
    }
    false
}

fn chain(error: Option<&(dyn std::error::Error + Send + Sync + 'static)>) -> String {
    let mut text = String::new();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.map(|error| error as _);
    while let Some(error) = cause {
        text.push_str(&error.to_string());
        text.push('\n');
        cause = error.source();
    }
    text
}

/// Whether a create met another one under way (S3 `ConditionalRequestConflict`, OCI `ConcurrentObjectUpdate`), so that
/// nothing is said about the name: the library calls every 409 `AlreadyExists`.
/// Source: S3 API, "PutObject", `If-None-Match`; a name that is taken is a 412 there, and a 409 `BlobAlreadyExists` on Azure.
pub(in crate::store) fn is_conflict(error: &Error) -> bool {
    let Error::AlreadyExists { source, .. } = error else { return false };
    let text = chain(Some(source.as_ref()));
    text.contains("409 Conflict") && !text.contains("BlobAlreadyExists")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_409_that_names_no_file_is_a_conflict() {
        let there = |source: &str| Error::AlreadyExists { path: "x".into(), source: source.into() };
        assert!(is_conflict(&there("status code: 409 Conflict: <Code>ConditionalRequestConflict</Code>")));
        assert!(is_conflict(&there("status code: 409 Conflict: <Code>ConcurrentObjectUpdate</Code>")));
        assert!(!is_conflict(&there("status code: 409 Conflict: <Code>BlobAlreadyExists</Code>")));
        assert!(!is_conflict(&there("status code: 412 Precondition Failed")));
        assert!(!is_conflict(&Error::Generic { store: "S3", source: "409 Conflict".into() }));
    }
}
