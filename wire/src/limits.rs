//! Every bound that device and cloud must agree on, named once.
//!
//! A value here is part of the protocol: raising one means old firmware refuses what new servers send.

/// Longest SUIT envelope a device reads.
pub const ENVELOPE_BYTES_MAX: usize = 8 * 1024;
/// Unit of verification: every block of a layer has its own digest and is verified before it is written.
pub const BLOCK_BYTES: usize = 16 * 1024;
/// Layers of one manifest.
pub const LAYERS_MAX: usize = 8;
/// Longest layer. The envelope's own limit is usually met first: it holds 32 bytes for every block.
pub const LAYER_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Longest area (the flash one component fills), padding included.
pub const AREA_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Longest ELF file that is kept for a bundle. No device ever sees one.
pub const SYMBOLS_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// Data of one `dn/layer` message.
pub const LAYER_CHUNK_BYTES_MAX: usize = 16 * 1024;
/// Layer bytes a device may have asked for and not yet received.
pub const LAYER_WINDOW_BYTES_MAX: usize = 128 * 1024;
/// UTF-8 bytes of one log record's text.
pub const LOG_TEXT_BYTES_MAX: usize = 512;
/// Records of one `up/log` message.
pub const LOG_BATCH_RECORDS_MAX: usize = 64;
/// Bytes of the stack in one crash report.
pub const CRASH_STACK_BYTES_MAX: usize = 1024;
/// Words of the registers in one crash report: r0 to r12, sp, lr, pc, xPSR.
pub const CRASH_REGISTERS: usize = 17;
/// Bytes of an application's memory that are kept of one crash, at most.
pub const CRASH_MEMORY_BYTES_MAX: u32 = 64 * 1024;
/// Pieces that such memory has.
pub const CRASH_MEMORY_PIECES_MAX: usize = 3;
/// Bytes of it in one `up/crash` message.
pub const CRASH_MEMORY_CHUNK_BYTES_MAX: usize = 1024;
/// Bytes of one telemetry message.
pub const TELEMETRY_BYTES_MAX: usize = 1024;
/// Bytes of its content type.
pub const CONTENT_TYPE_BYTES_MAX: usize = 64;
/// Bytes of one frame of a debug session.
pub const DEBUG_FRAME_BYTES_MAX: usize = 4 * 1024;
/// Frames of a debug session that one end may have sent and the other not yet taken, each way.
pub const DEBUG_WINDOW_FRAMES_MAX: u64 = 32;
/// Seconds without a word from any relay after which a device forgets a debug session.
pub const DEBUG_SILENCE_MAX_S: u32 = 120;
/// Breakpoints that a debug session may have planted.
pub const DEBUG_BREAKPOINTS_MAX: usize = 32;
/// Hardware breakpoints of a debug session, whatever its board has: a Cortex-M33 has up to 8 (Arm 100230, "Breakpoint Unit").
pub const DEBUG_HARDWARE_BREAKPOINTS_MAX: usize = 8;
/// Ranges besides the first that are stepped through at once.
pub const DEBUG_RANGES_MAX: usize = 16;
/// Reads, and also writes and registers to set, of one call in a debug session.
pub const DEBUG_READS_MAX: usize = 16;
/// Bytes of reads and stack that one answer in a debug session holds.
pub const DEBUG_READ_BYTES_MAX: usize = 3584;
/// Bytes of all writes of one call in a debug session.
pub const DEBUG_WRITE_BYTES_MAX: usize = 2048;
/// Longest signed keyset.
pub const KEYSET_BYTES_MAX: usize = 4096;
/// Longest signed directive.
pub const DIRECTIVE_BYTES_MAX: usize = 1024;
/// Largest MQTT packet, either way.
pub const PACKET_BYTES_MAX: usize = 32 * 1024;
/// Longest topic: `hf/1/{device id}/up/debug/{relay id}`.
pub const TOPIC_BYTES_MAX: usize = 81;
/// Longest subscription filter: a shared one, `$share/relay-debug/hf/1/{device id}/up/debug/{relay id}`.
pub const FILTER_BYTES_MAX: usize = 100;
/// Bytes of a bundle's version.
pub const VERSION_BYTES_MAX: usize = 32;
/// Bytes of a board's name.
pub const BOARD_BYTES_MAX: usize = 32;
/// Bytes of a hardware id.
pub const HARDWARE_ID_BYTES_MAX: usize = 64;
/// Debug keys of one manifest.
pub const DEBUG_KEYS_MAX: usize = 8;
/// Times a trial version may be started before it is taken back, at most.
pub const ATTEMPTS_MAX: u8 = 16;
/// Seconds a microvisor may be on trial before it goes back by itself, at most: one day. Nothing else ends a trial that nobody answers.
pub const MICROVISOR_TRIAL_S_MAX: u32 = 86_400;
/// Seconds a connection is kept after nobody needs it any more, at most: one day.
pub const GRACE_S_MAX: u32 = 24 * 60 * 60;
/// Seconds that a fault is held for a developer who debugs, at most: one hour.
pub const DEBUG_HOLD_S_MAX: u32 = 60 * 60;
/// Root keys of one keyset.
pub const ROOT_KEYS_MAX: usize = 4;
/// Release keys of one keyset.
pub const RELEASE_KEYS_MAX: usize = 8;
/// Broker trust anchors of one keyset.
pub const BROKER_ANCHORS_MAX: usize = 2;
/// Signatures of one COSE_Sign message.
pub const SIGNATURES_MAX: usize = 8;
/// Sources of one directive.
pub const SOURCES_MAX: usize = 4;
/// Bytes of one source.
pub const SOURCE_BYTES_MAX: usize = 128;
/// Depth of nested CBOR items.
pub const CBOR_DEPTH_MAX: usize = 16;
