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
    let is_nobody = source.as_deref().is_some_and(nobody_there);
    let (kind, reason, fix) = meaning(kind, &text, is_nobody, location.bucket(), endpoint);
    LakeError::Open { store: location.to_string(), kind, reason, fix: fix.into(), source }
}

fn meaning(
    kind: ErrorKind,
    text: &str,
    is_nobody: bool,
    bucket: &str,
    endpoint: &str,
) -> (ErrorKind, String, &'static str) {
    if kind == ErrorKind::NotFound {
        let reason = format!("there is no bucket \"{bucket}\" at {endpoint}");
        return (kind, reason, "make the bucket, or correct its name, the region or the endpoint");
    }
    if is_nobody {
        let reason = format!("nothing answers at {endpoint}");
        let fix = "correct the endpoint or the region, or see whether this machine can reach it";
        return (ErrorKind::Unavailable, reason, fix);
    }
    if text.contains("Received redirect") || text.contains("PermanentRedirect") {
        let reason = format!("the bucket \"{bucket}\" lies in another region than {endpoint}");
        return (ErrorKind::Config, reason, "set the option `region` (or AWS_REGION) to that of the bucket");
    }
    if kind == ErrorKind::Denied {
        return match WRONG_KEY.into_iter().find(|code| text.contains(code)) {
            Some(code) => (kind, format!("its credentials are refused ({code})"), "renew or correct them"),
            None => (
                kind,
                format!("access to the bucket \"{bucket}\" is denied"),
                "give these credentials the right to read, write, list and delete below that prefix",
            ),
        };
    }
    if kind == ErrorKind::Unsupported || text.contains("501 Not Implemented") {
        let reason = "it does not know a put that must not replace anything (If-None-Match: *)".to_owned();
        let fix = "take a store that does: two writers would overwrite each other's commits here";
        return (ErrorKind::Unsupported, reason, fix);
    }
    let reason = format!("it answered with an error at {endpoint}");
    (kind, reason, "see the cause; if it passes by itself, run the command again")
}

/// Whether the answer refuses a key that ran out: S3 says so with 400, which is no refusal to the library.
pub(in crate::store) fn is_expired(error: &Error) -> bool {
    let Error::Generic { source, .. } = error else { return false };
    let text = chain(Some(source.as_ref()));
    text.contains("400 Bad Request") && (text.contains("ExpiredToken") || text.contains("InvalidToken"))
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
    fn a_key_that_ran_out_is_a_refusal() {
        let answer = |text: &str| Error::Generic { store: "S3", source: text.into() };
        assert!(is_expired(&answer("status code: 400 Bad Request: <Code>ExpiredToken</Code>")));
        assert!(!is_expired(&answer("status code: 400 Bad Request: <Code>InvalidRequest</Code>")));
    }

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
