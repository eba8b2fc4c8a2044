//! Lines on the console, without the formatting machinery of `core`: it is a fifth of what fits into a first stage.

use chip::uart::Uart;

/// A piece of a line.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Piece<'a> {
    Text(&'a str),
    Number(u64),
}

/// Prints one line.
pub(crate) fn say(console: &mut Uart, pieces: &[Piece<'_>]) {
    text(console, "boot: ");
    for piece in pieces {
        match piece {
            Piece::Text(it) => text(console, it),
            Piece::Number(it) => number(console, *it),
        }
    }
    text(console, "\r\n");
}

fn text(console: &mut Uart, text: &str) {
    text.bytes().for_each(|byte| console.send(byte));
}

/// Decimal, or hexadecimal where it has more than 32 bits: a 64-bit division is as long as this file.
fn number(console: &mut Uart, number: u64) {
    let Ok(mut rest) = u32::try_from(number) else {
        text(console, "0x");
        return (0..16).rev().for_each(|digit| console.send(hex((number >> (4 * digit)) as u8 & 15)));
    };
    let mut digits = [0; 10];
    let mut count = 0;
    while count == 0 || rest > 0 {
        digits[count % 10] = b'0' + (rest % 10) as u8;
        rest /= 10;
        count += 1;
    }
    digits.iter().take(count).rev().for_each(|digit| console.send(*digit));
}

const fn hex(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
}
