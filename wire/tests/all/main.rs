//! What `wire` promises, checked from outside: other people's bytes, other languages' decoders, and damaged input.

mod acl;
mod bundle;
mod directive;
mod frozen;
mod keyset;
mod linkage;
mod manifest;
mod message;
mod python;
mod rule;
mod sample;
mod suit;
