//! What goes into a bundle's area: a raw image, or the loadable segments of an ELF file.

use anyhow::{Context, Result};
use object::elf::PT_LOAD;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};

use crate::failure::input;

/// What erased flash reads as; fills the space between segments.
pub(crate) const ERASED: u8 = 0xFF;

pub(crate) fn is_elf(file: &[u8]) -> bool {
    file.starts_with(&elf::ELFMAG)
}

/// The image as it lies in flash, from the lowest load address on. Anything that is not an ELF file is a raw image.
pub(crate) fn flatten(file: &[u8], bytes_max: usize) -> Result<Vec<u8>> {
    if !is_elf(file) {
        return Ok(file.to_vec());
    }
    if file.get(4) == Some(&elf::ELFCLASS64) {
        return Err(input(
            "a 64-bit ELF: microcontrollers take 32-bit ones (was it built for this machine?)",
        ));
    }
    let header = elf::FileHeader32::<Endianness>::parse(file).context("a broken ELF file")?;
    let endian = header.endian().context("a broken ELF file")?;
    let mut segments = Vec::new();
    for segment in header.program_headers(endian, file).context("a broken ELF file")? {
        let data = segment.data(endian, file).ok().context("a segment lies outside the ELF file")?;
        if segment.p_type(endian) == PT_LOAD && !data.is_empty() {
            segments.push((u64::from(segment.p_paddr(endian)), data));
        }
    }
    lay_out(segments, bytes_max)
}

fn lay_out(mut segments: Vec<(u64, &[u8])>, bytes_max: usize) -> Result<Vec<u8>> {
    segments.sort_by_key(|(address, _)| *address);
    let Some(&(base, _)) = segments.first() else {
        return Err(input("the ELF file has nothing to load"));
    };
    let mut image = Vec::new();
    for (address, data) in segments {
        let offset = usize::try_from(address - base)?;
        if offset < image.len() {
            return Err(input(format!("two segments overlap at address {address:#x}")));
        }
        if offset.saturating_add(data.len()) > bytes_max {
            return Err(input(format!(
                "the image spans {} bytes from {base:#x}; at most {bytes_max} fit",
                offset.saturating_add(data.len())
            )));
        }
        image.resize(offset, ERASED);
        image.extend_from_slice(data);
    }
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 32-bit little-endian Arm ELF with one program header a segment.
    fn elf32(segments: &[(u32, &[u8])]) -> Vec<u8> {
        let mut file = vec![0x7F, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let half = |file: &mut Vec<u8>, v: u16| file.extend_from_slice(&v.to_le_bytes());
        half(&mut file, 2);
        half(&mut file, 40);
        for word in [1u32, 0, 52, 0, 0] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        for value in [52u16, 32, segments.len() as u16, 40, 0, 0] {
            half(&mut file, value);
        }
        let mut at = 52 + 32 * segments.len() as u32;
        for (address, data) in segments {
            let size = data.len() as u32;
            for word in [1u32, at, 0x2000_0000, *address, size, size, 5, 4] {
                file.extend_from_slice(&word.to_le_bytes());
            }
            at += size;
        }
        segments.iter().for_each(|(_, data)| file.extend_from_slice(data));
        file
    }

    #[test]
    fn segments_lie_where_their_load_address_says() {
        let file = elf32(&[(0x1004, b"data"), (0x1000, b"ab")]);
        assert_eq!(flatten(&file, 100).unwrap(), b"ab\xFF\xFFdata");
    }

    #[test]
    fn what_cannot_be_an_image_is_refused_with_a_reason() {
        let overlap = flatten(&elf32(&[(0, b"abcd"), (2, b"x")]), 100).unwrap_err().to_string();
        assert!(overlap.contains("overlap"), "{overlap}");
        assert!(
            flatten(&elf32(&[(0, b"a"), (1000, b"b")]), 100).unwrap_err().to_string().contains("at most 100")
        );
        assert!(flatten(&elf32(&[]), 100).unwrap_err().to_string().contains("nothing to load"));
        let mut wide = elf32(&[(0, b"a")]);
        wide[4] = 2;
        assert!(flatten(&wide, 100).unwrap_err().to_string().contains("64-bit"));
        for cut in 4..elf32(&[(0, b"abcd")]).len() {
            flatten(&elf32(&[(0, b"abcd")])[..cut], 100).unwrap_err();
        }
    }

    #[test]
    fn anything_else_is_a_raw_image() {
        assert_eq!(flatten(b"#!holdfast-script\n", 100).unwrap(), b"#!holdfast-script\n");
    }
}
