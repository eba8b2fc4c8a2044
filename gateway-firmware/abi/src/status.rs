//! What a call answers.

macro_rules! statuses {
    ($($name:ident = $value:literal),* $(,)?) => {
        /// The 32-bit answer of every call. The ancestor's numbers.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Status {
            $(#[doc = concat!("`MV_STATUS_` ", stringify!($name), ".")] $name = $value,)*
        }

        impl Status {
            /// The status of this number, if there is one.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code {
                    $($value => Some(Status::$name),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    Okay = 0x00,
    TimeNotSet = 0x01,
    ParameterFault = 0x02,
    InvalidBufferSize = 0x03,
    PeripheralAccessFault = 0x04,
    BufferAlreadyInUse = 0x05,
    InvalidInterrupt = 0x06,
    InvalidHandle = 0x07,
    TooManyNotificationBuffers = 0x08,
    InvalidVector = 0x09,
    Unavailable = 0x0a,
    UnsupportedStructureVersion = 0x0b,
    TooManyChannels = 0x0c,
    UnknownChannelEndpoint = 0x0d,
    UnknownChannelType = 0x0e,
    ChannelClosed = 0x0f,
    NetworkNotConnected = 0x10,
    RateLimited = 0x11,
    InvalidBufferAlignment = 0x12,
    LateFault = 0x13,
    ResponseNotPresent = 0x14,
    IndexInvalid = 0x15,
    OffsetInvalid = 0x16,
    RequestAlreadySent = 0x17,
    RequestUnsuccessful = 0x18,
    LogMessageTooLong = 0x19,
    LoggingDisabledByServer = 0x1a,
    TooManyConfigKeys = 0x1b,
    UnknownConfigStore = 0x1c,
    UnknownConfigScope = 0x1d,
    InvalidConfigKey = 0x1e,
    InvalidAuthentication = 0x1f,
    WrongDataRequested = 0x20,
    InternalError = 0x21,
    TooManyElements = 0x22,
    RequiredElementMissing = 0x23,
    MicrovisorBusy = 0x24,
    AddressOutOfRange = 0x25,
    InputTooLong = 0x26,
}

impl Status {
    /// The number an application sees.
    pub const fn code(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_ancestors_and_have_no_gap() {
        for code in 0..=0x26 {
            assert_eq!(Status::from_code(code).map(Status::code), Some(code));
        }
        assert_eq!(Status::from_code(0x27), None);
        assert_eq!(Status::Unavailable.code(), 10);
        assert_eq!(Status::InputTooLong.code(), 0x26);
    }
}
