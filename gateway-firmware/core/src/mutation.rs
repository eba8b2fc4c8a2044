//! Deliberate faults, so that tests can prove that they would notice.
//!
//! `mutated!(RecordCrc)` is the constant `false` in every build but the tests' (feature `mutate`), where it says whether
//! that fault is switched on in this thread. Each stands beside the check or the step that it takes away; the suite
//! `tests/update/mutations.rs` (and its like for the lists apart) switches on one after the other and demands that a named test fails.

#[cfg(feature = "mutate")]
macro_rules! mutated {
    ($mutation:ident) => {
        $crate::mutation::is_on($crate::mutation::Mutation::$mutation)
    };
}

#[cfg(not(feature = "mutate"))]
macro_rules! mutated {
    ($mutation:ident) => {
        false
    };
}

pub(crate) use mutated;

#[cfg(feature = "mutate")]
pub use switch::*;

#[cfg(feature = "mutate")]
mod switch {
    extern crate std;
    use std::cell::Cell;
    use std::thread_local;

    /// What is left out or done wrongly.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Mutation {
        /// Records are believed whatever their checksum says.
        RecordCrc,
        /// Bank headers are believed whatever their checksum says.
        BankCrc,
        /// A bank's header is written before its records.
        BankCommitFirst,
        /// Appends follow a torn record instead of moving to the other bank.
        TornTail,
        /// The other bank is not erased before records are moved there.
        BankErase,
        /// A record's read-back after writing is not looked at.
        RecordReadBack,
        /// A trial's start is not counted before it.
        AttemptJournal,
        /// The confirmation is not journaled.
        ConfirmJournal,
        /// A revert is not journaled.
        RevertJournal,
        /// Results are not journaled.
        ResultJournal,
        /// The envelope is written before the journal says so.
        EnvelopeFirst,
        /// New versions are written over the confirmed slot.
        ConfirmedSlot,
        /// Blocks are written whatever their digest says.
        BlockDigest,
        /// Blocks are written without an erase.
        BlockErase,
        /// After a restart the first blocks are taken to be there.
        ResumeHash,
        /// The area is not read back before it is called verified.
        AreaReadBack,
        /// Images are started without being measured.
        Measure,
        /// Manifests are believed without a signature.
        ManifestSignature,
        /// A manifest that is not the directive's is taken.
        TargetDigest,
        /// Manifests for other boards are taken.
        BoardName,
        /// Manifests for other components are taken.
        ComponentName,
        /// A microvisor is called confirmed, and the first stage is not told.
        ExchangeRecord,
        /// A microvisor is kept that no server has answered.
        ExchangeWord,
        /// A slot is written while the one that runs is damaged.
        ExchangeWhole,
        /// Nothing is written while the slot that runs is damaged, though the other one is too.
        ExchangeHopeless,
        /// A microvisor waits for its word as long as its manifest says, however long that is.
        ExchangeTrial,
        /// The first stage's floor rises above what there is to fall back on.
        FloorOverFallBack,
        /// The first stage's floor rises above what runs.
        FloorOverRunning,
        /// What runs as the last resort raises the floor of microvisors.
        FloorLastResort,
        /// A counter that cannot be raised is tried again at every turn.
        FloorFlood,
        /// A root is revoked that a slot of the microvisor still needs.
        RootsInUse,
        /// A root is revoked that a slot's keyset still names.
        RootsNamed,
        /// A device begins from any first keyset, or goes back to an older one.
        OwnKeyset,
        /// A microvisor is tried whose keyset the first stage will not believe.
        ExchangeRoots,
        /// A microvisor is tried that the application does not run on.
        ExchangeMinimum,
        /// Manifests below the floor are taken and started.
        Floor,
        /// A manifest is tried again for the deployment that it failed.
        Rejection,
        /// Any `go` is good enough.
        GoTarget,
        /// The nonce of a directive is whatever it says.
        DirectiveNonce,
        /// The floor rises with the confirmation.
        FloorAtConfirm,
        /// Crash reports are not kept in the store.
        CrashKept,
        /// A crash report is written to the store whenever there is one.
        CrashWear,
        /// The application is started again before its memory is copied.
        CrashMemoryCopy,
        /// Memory of a crash is kept however often it was before.
        CrashMemoryWear,
        /// A restart asked for comes at once, however often.
        RestartFlood,
        /// The application's log records push out the microvisor's.
        LogShare,
        /// What was said of one start is done in the next.
        DebugOtherStart,
        /// Breakpoints of one version are planted in the next.
        DebugOtherVersion,
        /// Breakpoints stay planted whatever is done with the application.
        DebugOut,
        /// A session that may only read may do everything.
        DebugReadOnly,
        /// A debugger's hand goes where it likes.
        DebugRegion,
        /// What a breakpoint took the place of is put back over what the application wrote there.
        DebugRestore,
        /// Anybody may attach.
        DebugKey,
        /// Who may debug one version may debug the next.
        DebugUpdate,
        /// The application is touched by what was not verified.
        DebugVerify,
        /// A frame is given up whatever its number.
        DebugOnce,
        /// A relay process that lost a session is heard.
        DebugEpoch,
        /// A session without a word from a relay goes on.
        DebugSilence,
        /// As many handshakes as a relay likes.
        DebugFlood,
        /// A session that only a relay keeps up goes on.
        DebugQuiet,
        /// A session that was opened to watch may write.
        DebugWatch,
    }

    impl Mutation {
        /// Those of the debug agent, which `tests/debug/mutations.rs` switches on.
        pub const DEBUG: [Mutation; 6] = [
            Mutation::DebugOtherStart,
            Mutation::DebugOtherVersion,
            Mutation::DebugOut,
            Mutation::DebugReadOnly,
            Mutation::DebugRegion,
            Mutation::DebugRestore,
        ];

        /// Those of a debug session's way to the device, which `tests/gateway/mutations.rs` switches on.
        pub const PIPE: [Mutation; 9] = [
            Mutation::DebugKey,
            Mutation::DebugUpdate,
            Mutation::DebugVerify,
            Mutation::DebugOnce,
            Mutation::DebugEpoch,
            Mutation::DebugSilence,
            Mutation::DebugFlood,
            Mutation::DebugQuiet,
            Mutation::DebugWatch,
        ];

        pub const ALL: [Mutation; 46] = [
            Mutation::RecordCrc,
            Mutation::BankCrc,
            Mutation::BankCommitFirst,
            Mutation::TornTail,
            Mutation::BankErase,
            Mutation::RecordReadBack,
            Mutation::AttemptJournal,
            Mutation::ConfirmJournal,
            Mutation::RevertJournal,
            Mutation::ResultJournal,
            Mutation::EnvelopeFirst,
            Mutation::ConfirmedSlot,
            Mutation::BlockDigest,
            Mutation::BlockErase,
            Mutation::ResumeHash,
            Mutation::AreaReadBack,
            Mutation::Measure,
            Mutation::ManifestSignature,
            Mutation::TargetDigest,
            Mutation::BoardName,
            Mutation::ComponentName,
            Mutation::ExchangeRecord,
            Mutation::ExchangeWord,
            Mutation::ExchangeWhole,
            Mutation::ExchangeHopeless,
            Mutation::ExchangeTrial,
            Mutation::FloorOverFallBack,
            Mutation::FloorOverRunning,
            Mutation::FloorLastResort,
            Mutation::FloorFlood,
            Mutation::RootsInUse,
            Mutation::RootsNamed,
            Mutation::OwnKeyset,
            Mutation::ExchangeRoots,
            Mutation::ExchangeMinimum,
            Mutation::Floor,
            Mutation::Rejection,
            Mutation::GoTarget,
            Mutation::DirectiveNonce,
            Mutation::FloorAtConfirm,
            Mutation::CrashKept,
            Mutation::CrashWear,
            Mutation::CrashMemoryCopy,
            Mutation::CrashMemoryWear,
            Mutation::RestartFlood,
            Mutation::LogShare,
        ];
    }

    thread_local! {
        static ON: Cell<Option<Mutation>> = const { Cell::new(None) };
    }

    pub(crate) fn is_on(mutation: Mutation) -> bool {
        ON.get() == Some(mutation)
    }

    /// Switches a fault on in this thread until the guard is dropped.
    #[must_use]
    pub fn switch_on(mutation: Mutation) -> Guard {
        ON.set(Some(mutation));
        Guard(())
    }

    #[derive(Debug)]
    pub struct Guard(());

    impl Drop for Guard {
        fn drop(&mut self) {
            ON.set(None);
        }
    }
}
