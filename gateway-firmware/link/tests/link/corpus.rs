//! Bytes that parsers of such things have stumbled over. None may do more than be ignored, or end a connection.

/// What comes after the question of a DNS answer.
pub(crate) const DNS: [(&str, &[u8]); 14] = [
    ("nothing", &[]),
    ("a name that points at itself", &[0xc0, 28, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]),
    ("a name that points beyond the end", &[0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]),
    ("a name that points forward", &[0xc0, 40, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]),
    (
        "two names that point at each other",
        &[0xc0, 31, 1, 0xc0, 29, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 1, 1, 1, 1],
    ),
    ("half a pointer", &[0xc0]),
    ("a label longer than the message", &[63, b'a', b'b']),
    ("a label of a kind that is none", &[0x80, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]),
    ("an address of five bytes", &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 5, 10, 0, 0, 1, 1]),
    ("an address of no bytes", &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 0]),
    ("data longer than the message", &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0xff, 0xff, 10, 0, 0, 1]),
    ("a canonical name that is none", &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 40]),
    ("a canonical name that is itself", &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 12]),
    ("a fixed part that is cut", &[0xc0, 12, 0, 1, 0]),
];

/// Options of a DHCP answer, after its kind.
pub(crate) const DHCP: [(&str, &[u8]); 12] = [
    ("nothing, not even an end", &[]),
    ("only an end", &[255]),
    ("an option longer than the message", &[51, 200, 0, 0]),
    ("an option without a length", &[51]),
    ("a mask that has holes", &[54, 4, 10, 0, 0, 1, 1, 4, 255, 0, 255, 0, 51, 4, 0, 0, 1, 0, 255]),
    ("a mask of nothing", &[54, 4, 10, 0, 0, 1, 1, 4, 0, 0, 0, 0, 51, 4, 0, 0, 1, 0, 255]),
    ("a lease of no time", &[54, 4, 10, 0, 0, 1, 1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 0, 0, 255]),
    ("a lease for ever", &[54, 4, 10, 0, 0, 1, 1, 4, 255, 255, 255, 0, 51, 4, 255, 255, 255, 255, 255]),
    (
        "a renewal after the end",
        &[
            54, 4, 10, 0, 0, 1, 1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 0, 60, 58, 4, 255, 255, 255, 255, 59, 4,
            0, 0, 0, 1, 255,
        ],
    ),
    (
        "a router that is a group",
        &[54, 4, 10, 0, 0, 1, 1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 1, 0, 3, 4, 224, 0, 0, 1, 255],
    ),
    (
        "names servers of three bytes, and a hundred",
        &[
            54, 4, 10, 0, 0, 1, 1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 1, 0, 6, 3, 1, 2, 3, 6, 100, 9, 9, 9, 9,
            255,
        ],
    ),
    (
        "a server that is everybody",
        &[54, 4, 255, 255, 255, 255, 1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 1, 0, 255],
    ),
];

/// Protected content: its type, and bytes that a server of ours could send after the handshake.
pub(crate) const INNER: [(&str, u8, &[u8]); 26] = [
    ("no content at all", 0, &[]),
    ("an empty handshake message", 22, &[]),
    ("a hello request", 22, &[0, 0, 0, 0]),
    ("a client hello", 22, &[1, 0, 0, 2, 3, 3]),
    ("a server hello", 22, &[2, 0, 0, 2, 3, 3]),
    ("a ticket that is cut", 22, &[4, 0, 0, 5, 0, 0, 0, 1, 0]),
    ("an empty ticket", 22, &[4, 0, 0, 13, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ("a ticket longer than it says", 22, &[4, 0, 0, 14, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 7, 0, 9]),
    ("a ticket for ever", 22, &[4, 0, 0, 15, 255, 255, 255, 255, 0, 0, 0, 0, 1, 1, 0, 1, 7, 0, 0]),
    ("an end of early data", 22, &[5, 0, 0, 0]),
    ("encrypted extensions", 22, &[8, 0, 0, 2, 0, 0]),
    ("a certificate", 22, &[11, 0, 0, 4, 0, 0, 0, 0]),
    ("a request for a certificate", 22, &[13, 0, 0, 3, 0, 0, 0]),
    ("a signature", 22, &[15, 0, 0, 4, 4, 3, 0, 0]),
    ("a finished", 22, &[20, 0, 0, 4, 1, 2, 3, 4]),
    ("new keys, asked for in no known way", 22, &[24, 0, 0, 1, 2]),
    ("new keys without the question", 22, &[24, 0, 0, 0]),
    ("new keys and something after them", 22, &[24, 0, 0, 1, 0, 4, 0]),
    ("a message of unknown kind", 22, &[99, 0, 0, 1, 0]),
    ("half a message's header", 22, &[4, 0]),
    ("a message of 16 MiB", 22, &[4, 255, 255, 255, 0]),
    ("a fatal alert", 21, &[2, 40]),
    ("a warning", 21, &[1, 90]),
    ("an alert of one byte", 21, &[2]),
    ("a change of cipher", 20, &[1]),
    ("a heartbeat", 24, &[1, 0, 1, 0]),
];
