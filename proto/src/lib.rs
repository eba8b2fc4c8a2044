//! Everything the .proto files say, as Rust: gRPC clients and servers, the device's messages as owned prost types,
//! who may call which method, why a call may fail, and resource names as types.
//!
//! Holds: every method of every service is in [`METHODS`] with the access its .proto file declares (the build fails
//! otherwise); a resource name parses to exactly one value and prints back as the same bytes. No IO, no policy.
#![expect(clippy::allow_attributes, reason = "generated code has some")]

pub mod errors;
pub mod methods;
pub mod mutation;
pub mod name;

pub use methods::{METHODS, Method, method};
pub use mutation::Mutation;

/// The `FileDescriptorSet` of all files and their imports, options included: for gRPC reflection and generated tests.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! package {
    ($name:ident) => {
        pub mod $name {
            pub mod v1 {
                include!(concat!(env!("OUT_DIR"), "/holdfast.", stringify!($name), ".v1.rs"));
            }
        }
    };
}

package!(auth);
package!(broker);
package!(debug);
package!(device);
package!(logs);
package!(ota);
package!(registry);
