//! Debug sessions end to end: a developer's gRPC streams, one or two relay processes, the broker, and a scripted device end
//! with a real identity. What the machine itself decides is tested beside it; here processes, connections and people go.

mod ends;
mod forbidden;
mod once;
mod real;
mod replicas;
mod streams;
mod world;

use scenarios::debug::{developer, device};
use scenarios::{board, fleet};
