//! What an application links against.
#![no_std]
