//! Every reason an error of our services may carry (`google.rpc.ErrorInfo.reason`, domain `holdfast`): what it means and what to do.
//!
//! Part of the API: a reason is never renamed, and never means something else. docs/errors.md is made from this table.

/// One reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// UPPER_SNAKE_CASE.
    pub name: &'static str,
    /// The gRPC code it comes with.
    pub code: &'static str,
    /// What is the case.
    pub meaning: &'static str,
    /// What the caller can do about it.
    pub advice: &'static str,
    /// Keys of `ErrorInfo.metadata`; empty: none.
    pub metadata: &'static [&'static str],
}

/// Where the table is explained, for `google.rpc.Help`; a reason's section is its name.
pub const PAGE: &str = "docs/errors.md";

const fn reason(
    name: &'static str,
    code: &'static str,
    meaning: &'static str,
    advice: &'static str,
) -> Reason {
    Reason { name, code, meaning, advice, metadata: &[] }
}

impl Reason {
    const fn with(self, metadata: &'static [&'static str]) -> Reason {
        Reason { metadata, ..self }
    }

    /// `docs/errors.md#name`.
    pub fn link(&self) -> String {
        format!("{PAGE}#{}", self.name.to_lowercase())
    }
}

/// By name.
pub const REASONS: &[Reason] = &[
    reason(
        "ALREADY_EXISTS",
        "ALREADY_EXISTS",
        "Something with this name or content is there already.",
        "Use what is there, or choose another name.",
    ),
    reason(
        "ALREADY_REPLACED",
        "FAILED_PRECONDITION",
        "The device was replaced by another, or the replacement took another's place.",
        "Look at `replaces` and `replaced_by` of both.",
    ),
    reason(
        "ASSERTIONS_PER_KEY",
        "RESOURCE_EXHAUSTED",
        "This key has signed in too often within the life of an assertion.",
        "Keep the access token for its 15 minutes instead of signing in for every call.",
    ),
    reason(
        "ASSERTION_REFUSED",
        "UNAUTHENTICATED",
        "The signed assertion is not one that may be exchanged: wrong key, audience, time, or used before.",
        "Check that the key is registered and not deleted, and the clock of this machine.",
    ),
    reason(
        "ATTACHMENTS_LEAVING_MAX",
        "RESOURCE_EXHAUSTED",
        "Too many attachments of this debug session are being ended.",
        "Attach again in a moment.",
    ),
    reason(
        "ATTACHMENTS_MAX",
        "RESOURCE_EXHAUSTED",
        "This relay serves as many attachments as it may.",
        "Try again later, or at another replica.",
    ),
    reason(
        "ATTACHMENTS_OF_TENANT_MAX",
        "RESOURCE_EXHAUSTED",
        "The tenant has as many attachments at this relay as it may have.",
        "Detach one.",
    ),
    reason(
        "BOOTSTRAP_CODE",
        "UNAUTHENTICATED",
        "The one-time code is not the one that was printed last, or was used.",
        "Print a new one with `svc-registry bootstrap-code`; it works while there is no administrator.",
    ),
    reason(
        "BUNDLE_IN_USE",
        "FAILED_PRECONDITION",
        "A deployment still needs the bundle.",
        "Wait until it has ended, or cancel it.",
    ),
    reason(
        "BUNDLE_REFUSED",
        "INVALID_ARGUMENT",
        "The manifest is not one that devices would accept.",
        "`holdfast bundle verify FILE` says why before the upload; sign with a release key of the keyset.",
    )
    .with(&["refusal"]),
    reason(
        "CLAIMS_PER_TENANT",
        "RESOURCE_EXHAUSTED",
        "The tenant has as many claims as it may have.",
        "Use one for more devices; claims that ended are forgotten after a while.",
    ),
    reason(
        "DEBUGGING_FORBIDDEN",
        "FAILED_PRECONDITION",
        "The fleet's owner forbids to debug this device: by itself, by a label it carries, or for the whole tenant.",
        "Debug another device, or ask an administrator, who sees what forbids it in `holdfast device show DEVICE`.",
    )
    .with(&["forbidden_by"]),
    reason(
        "DEBUG_LABEL_BANS_MAX",
        "RESOURCE_EXHAUSTED",
        "The tenant forbids debugging for as many labels as it may.",
        "Allow it for one again, or give the devices one label in common: `holdfast debugging list`.",
    ),
    reason(
        "DEBUG_SESSIONS_OF_RELAY_MAX",
        "RESOURCE_EXHAUSTED",
        "This relay holds as many debug sessions as it may.",
        "Attach at another replica.",
    ),
    reason(
        "DEBUG_SESSIONS_OF_TENANT_MAX",
        "RESOURCE_EXHAUSTED",
        "The tenant has as many open debug sessions as it may have.",
        "Close some: `holdfast debug-session list --state open`.",
    ),
    reason("DEPLOYMENT_OVER", "FAILED_PRECONDITION", "The deployment has ended.", "Make another one."),
    reason(
        "DEPLOYMENT_STARTED",
        "FAILED_PRECONDITION",
        "The device was granted `go` and may be installing: nothing is taken back from here on.",
        "Wait for its end, then deploy again.",
    ),
    reason(
        "DEVICE_HAS_SESSION",
        "FAILED_PRECONDITION",
        "The device has an open debug session of a writer, and may have one of those.",
        "Watch beside it, or close it: `holdfast debug-session list --state open --device DEVICE`.",
    ),
    reason(
        "DEVICE_HAS_WATCHERS",
        "RESOURCE_EXHAUSTED",
        "The device has as many open debug sessions of watchers as it may have.",
        "Close one: `holdfast debug-session list --state open --device DEVICE`.",
    ),
    reason(
        "DEVICE_QUARANTINED",
        "FAILED_PRECONDITION",
        "Two boards were seen to use the device's identity, so that neither is let in.",
        "Find the copy; then release the device, or replace it.",
    ),
    reason(
        "DEVICE_REVOKED",
        "FAILED_PRECONDITION",
        "The device's identity was ended.",
        "Let the board enrol anew; it is another device then.",
    ),
    reason(
        "DEVICE_ROOTS_MAX",
        "RESOURCE_EXHAUSTED",
        "As many device roots are trusted as brokers take.",
        "Retire one that no device is under any more.",
    ),
    reason(
        "DIRECTOR_KEYS_MAX",
        "RESOURCE_EXHAUSTED",
        "The tenant has as many director keys as it may have: devices still hold keysets that name the old ones.",
        "Delete those of older keysets: `holdfast keys forget`.",
    ),
    reason(
        "DIRECTOR_KEY_NOT_IN_KEYSET",
        "FAILED_PRECONDITION",
        "The tenant's keyset does not name the key that signs directives, so no device would obey.",
        "Publish a keyset with it: `holdfast keyset init`, or `holdfast keys rotate --director`.",
    ),
    reason(
        "ETAG_MISMATCH",
        "ABORTED",
        "The resource changed after it was read.",
        "Read it again and repeat the change.",
    ),
    reason(
        "FORBIDDEN",
        "PERMISSION_DENIED",
        "The caller's role allows the method, but not this.",
        "Ask an administrator of the installation.",
    ),
    reason(
        "INTERNAL",
        "INTERNAL",
        "A fault of ours.",
        "Report it with the trace id; the service's log says what happened.",
    ),
    reason(
        "INVALID_FIELD",
        "INVALID_ARGUMENT",
        "A field has a value it cannot have; `google.rpc.BadRequest` names it.",
        "Correct the field.",
    ),
    reason(
        "INVALID_FILTER",
        "INVALID_ARGUMENT",
        "A filter stops being one after `position` characters; `google.rpc.BadRequest` says what was expected there.",
        "Correct the filter; `holdfast device list --help` has examples.",
    )
    .with(&["position"]),
    reason(
        "KEYSET_MISSING",
        "FAILED_PRECONDITION",
        "The tenant has no keyset yet, so no signature can be checked.",
        "`holdfast keyset init`.",
    ),
    reason(
        "KEYSET_VERSION",
        "FAILED_PRECONDITION",
        "Keysets are published one by one, in the order of their versions.",
        "Sign the version that the message names.",
    ),
    reason(
        "KEYS_PER_TENANT",
        "RESOURCE_EXHAUSTED",
        "The tenant has as many sign-in keys as it may have.",
        "Delete keys that nobody uses.",
    ),
    reason(
        "KEY_KNOWN",
        "FAILED_PRECONDITION",
        "The board's key belongs to another device.",
        "The board must make a key of its own: erase it.",
    ),
    reason(
        "LAST_ADMIN_KEY",
        "FAILED_PRECONDITION",
        "Without this key nobody could administer any more.",
        "Register another administrator's key first.",
    ),
    reason(
        "LAYER_INCOMPLETE",
        "FAILED_PRECONDITION",
        "The upload cannot be finished: a layer lacks bytes.",
        "Write the layer on from `committed`; `holdfast bundle upload` run again does.",
    )
    .with(&["layer", "committed"]),
    reason(
        "LAYER_MISMATCH",
        "FAILED_PRECONDITION",
        "What was written is not what the manifest says.",
        "Send the layer again from 0.",
    )
    .with(&["layer"]),
    reason(
        "MICROVISOR_TOO_OLD",
        "FAILED_PRECONDITION",
        "The bundle needs a newer microvisor than the device runs.",
        "Deploy that microvisor first; the application may be deployed at once and waits for it.",
    )
    .with(&["needed", "running"]),
    reason(
        "NOT_FOUND",
        "NOT_FOUND",
        "There is no such resource, or it is not the caller's to know of: both look the same.",
        "Check the id and the tenant of the context.",
    ),
    reason(
        "NOT_QUARANTINED",
        "FAILED_PRECONDITION",
        "The device is not in quarantine.",
        "Nothing is to be done.",
    ),
    reason("NOT_REVOKED", "FAILED_PRECONDITION", "Only a revoked device is deleted.", "Revoke it first."),
    reason(
        "OFFSET_MISMATCH",
        "FAILED_PRECONDITION",
        "The write does not begin where the layer ends.",
        "Write on from `committed`.",
    )
    .with(&["committed"]),
    reason(
        "OTHER_BOARD",
        "FAILED_PRECONDITION",
        "The bundle is for another board than the device is.",
        "Deploy a bundle made with the device's `--board`.",
    ),
    reason(
        "POSITION_AHEAD",
        "INVALID_ARGUMENT",
        "The position is ahead of all that was ever said in the debug session.",
        "Attach without a position; whoever made this one mixed sessions up.",
    ),
    reason(
        "POSITION_NOT_RESUMABLE",
        "FAILED_PRECONDITION",
        "Neither end holds the frames after this position any more.",
        "Attach without a position, and begin anew.",
    ),
    reason(
        "REQUEST_ID_REUSED",
        "ALREADY_EXISTS",
        "The request id was used within a day for a request that was not this one.",
        "Give every new request an id of its own; repeat a request with its own id and nothing changed.",
    ),
    reason(
        "ROLE_INSUFFICIENT",
        "PERMISSION_DENIED",
        "The key's role does not allow the method.",
        "An administrator registers a key with the role that the message names.",
    ),
    reason(
        "ROOT_IN_USE",
        "FAILED_PRECONDITION",
        "Devices hold certificates under this device root.",
        "Wait until they came over to the new one, or retire it by force: they renew by their birth certificates.",
    ),
    reason(
        "ROOT_ISSUES",
        "FAILED_PRECONDITION",
        "Certificates are issued under this device root.",
        "Make another one, and wait until that one issues.",
    ),
    reason(
        "SERVICE_CERTIFICATE_MISSING",
        "UNAUTHENTICATED",
        "The method is for Holdfast's own services.",
        "Nothing: people and tools have other methods.",
    ),
    reason(
        "SESSION_ENDED",
        "FAILED_PRECONDITION",
        "The debug session has ended; the metadata says how.",
        "Create another one.",
    )
    .with(&["end_reason"]),
    reason(
        "SESSION_MOVING",
        "UNAVAILABLE",
        "The debug session is going over to another relay process.",
        "Attach again.",
    ),
    reason(
        "SESSION_OF_ANOTHER",
        "PERMISSION_DENIED",
        "Somebody else made the debug session, and it alone attaches to it.",
        "Make one of your own, as a watcher if the device is debugged already; whoever may debug may close the other.",
    ),
    reason(
        "SYMBOLS_WRITERS_MAX",
        "RESOURCE_EXHAUSTED",
        "This server takes as many ELF files at once as it may.",
        "Try again later, or at another replica.",
    ),
    reason(
        "SYMBOLS_WRITERS_OF_TENANT_MAX",
        "RESOURCE_EXHAUSTED",
        "The tenant sends as many ELF files at once as it may.",
        "Wait for one to end.",
    ),
    reason(
        "TAILS_MAX",
        "RESOURCE_EXHAUSTED",
        "This server follows as many logs as it may.",
        "Try again later, or at another replica.",
    ),
    reason(
        "TAILS_OF_TENANT_MAX",
        "RESOURCE_EXHAUSTED",
        "The tenant follows as many logs at this server as it may.",
        "End one.",
    ),
    reason(
        "TOKEN_BAD_CLAIMS",
        "UNAUTHENTICATED",
        "The token says something that ours never say: another issuer, audience or life.",
        "Get one by `ExchangeToken`.",
    ),
    reason(
        "TOKEN_BAD_SIGNATURE",
        "UNAUTHENTICATED",
        "The token was not signed by this installation.",
        "Get one by `ExchangeToken` of this installation.",
    ),
    reason(
        "TOKEN_EXPIRED",
        "UNAUTHENTICATED",
        "The token's life is over; streams end with the token they were opened with.",
        "Sign in again and go on.",
    ),
    reason(
        "TOKEN_MALFORMED",
        "UNAUTHENTICATED",
        "What was sent as a token is none.",
        "Send `authorization: Bearer …` with what `ExchangeToken` gave.",
    ),
    reason(
        "TOKEN_MISSING",
        "UNAUTHENTICATED",
        "The method needs a token.",
        "Send `authorization: Bearer …`; `holdfast token` prints one.",
    ),
    reason(
        "TOKEN_UNKNOWN_KEY",
        "UNAUTHENTICATED",
        "The token names a key that this installation does not sign with.",
        "Get one by `ExchangeToken` of this installation.",
    ),
    reason(
        "UNAVAILABLE",
        "UNAVAILABLE",
        "Something the service needs is away, or somebody else was quicker.",
        "Repeat the call after `google.rpc.RetryInfo`; nothing was done, or it may be done twice without harm.",
    ),
    reason(
        "UPLOADS_OPEN_MAX",
        "RESOURCE_EXHAUSTED",
        "The tenant has as many unfinished uploads as it may have.",
        "Finish one; an upload that nobody goes on with is forgotten after a day.",
    ),
    reason(
        "WATCHES_MAX",
        "RESOURCE_EXHAUSTED",
        "This server serves as many watches as it may.",
        "Try again later, or at another replica.",
    ),
    reason(
        "WATCHES_OF_TENANT_MAX",
        "RESOURCE_EXHAUSTED",
        "The tenant has as many watches at this server as it may have.",
        "End one.",
    ),
    reason(
        "WRITERS_MAX",
        "RESOURCE_EXHAUSTED",
        "This server takes as many uploads at once as it may.",
        "Try again later.",
    ),
    reason(
        "WRITERS_OF_TENANT_MAX",
        "RESOURCE_EXHAUSTED",
        "The tenant uploads as much at once as it may.",
        "Wait for one to end.",
    ),
    reason(
        "WRITE_IDLE",
        "DEADLINE_EXCEEDED",
        "Nothing was written for a while.",
        "Run the upload again: it goes on where it stopped.",
    ),
];

/// The row of a reason.
pub fn find(name: &str) -> Option<&'static Reason> {
    // Only errors come here: a row out of place costs nothing, where a search by halves would not find it.
    REASONS.iter().find(|row| row.name == name)
}

/// docs/errors.md.
pub fn page() -> String {
    let mut text = String::from(
        "# Errors\n\n\
         Every error of a Holdfast service carries `google.rpc.ErrorInfo` with domain `holdfast` and one of these reasons, and `google.rpc.Help` with a\n\
         link to its section. Programs act on the reason, never on the message: a reason is not renamed, and does not come to mean something else. Made from\n\
         `proto/src/errors.rs`.\n",
    );
    for row in REASONS {
        text += &format!("\n## {}\n\n`{}`. {} {}\n", row.name, row.code, row.meaning, row.advice);
        if !row.metadata.is_empty() {
            text += &format!("Metadata: `{}`.\n", row.metadata.join("`, `"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_complete_and_found_by_name() {
        assert!(REASONS.is_sorted_by(|a, b| a.name < b.name));
        for row in REASONS {
            assert_eq!(find(row.name), Some(row));
            assert!(row.name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{}", row.name);
            assert!(row.meaning.ends_with('.') && row.advice.ends_with('.'), "{}", row.name);
        }
        assert_eq!(find("not_found"), None);
    }

    #[test]
    fn the_committed_page_is_made_from_the_table() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors.md");
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert!(committed == page(), "run `cargo run -p holdfast -- manual errors > docs/errors.md`");
    }
}
