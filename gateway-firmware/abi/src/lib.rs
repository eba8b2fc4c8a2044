//! The application interface as numbers: slots, statuses, structures, and which memory may be handed over.
#![no_std]
