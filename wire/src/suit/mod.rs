//! SUIT envelopes.
