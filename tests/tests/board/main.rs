//! The emulated Cortex-M33, whole: first stage, microvisor and application as built for release, against the real services.

mod crash;
mod damage;
mod debug;
mod examples;
mod factory;
mod hold;
mod main_job;
mod microvisor;
mod network;
mod older;
mod pace;
mod projects;
mod recovery;
mod resets;
mod walls;
