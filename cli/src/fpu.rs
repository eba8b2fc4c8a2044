//! Whether an ELF file means to use the FPU or MVE, which no application has: docs/decisions/0016-no-fpu-for-applications.md.
//!
//! Told by what linkers write: the ABI in the ELF header's flags, and the build attributes ("Addenda to, and Errata in, the ABI for the
//! Arm Architecture", IHI0045). What a file does not say is not guessed: an instruction of the FPU that is executed all the same ends
//! the application by a UsageFault (NOCP).

use anyhow::{Context, Result};
use object::read::elf::{AttributeReader, FileHeader, SectionHeader};
use object::{Endianness, elf};

use crate::failure::input;

/// Of a whole file: the only scope that linkers use.
const TAG_FILE: u8 = 1;
const TAG_CPU_RAW_NAME: u64 = 4;
const TAG_CPU_NAME: u64 = 5;
const TAG_FP_ARCH: u64 = 10;
const TAG_COMPATIBILITY: u64 = 32;
const TAG_MVE_ARCH: u64 = 48;

/// Refuses a file that says so; what is not an ELF file of an Arm processor says nothing.
pub(crate) fn refuse(file: &[u8]) -> Result<()> {
    let Some(why) = usage(file)? else { return Ok(()) };
    Err(input(format!(
        "the ELF file is built for {why}: on a device the FPU is off in both worlds, so that no state of it is lost or leaks between \
         them. Compile with `-mfloat-abi=soft` (gcc: `-mcpu=cortex-m33+nofp`), or for `thumbv8m.main-none-eabi` (Rust): floats work, \
         computed without it. An instruction of the FPU would end the application by a UsageFault (NOCP)"
    )))
}

/// What it says of the FPU, in words.
fn usage(file: &[u8]) -> Result<Option<&'static str>> {
    let is_elf32 = file.starts_with(&elf::ELFMAG) && file.get(4) == Some(&elf::ELFCLASS32);
    if !is_elf32 {
        return Ok(None);
    }
    let header = elf::FileHeader32::<Endianness>::parse(file).context("a broken ELF file")?;
    let endian = header.endian().context("a broken ELF file")?;
    if header.e_machine(endian) != elf::EM_ARM {
        return Ok(None);
    }
    if header.e_flags(endian) & elf::EF_ARM_ABI_FLOAT_HARD != 0 {
        return Ok(Some("the hard-float ABI, which passes numbers in registers of the FPU"));
    }
    for section in header.sections(endian, file).context("a broken ELF file")?.iter() {
        if section.sh_type(endian) != elf::SHT_ARM_ATTRIBUTES {
            continue;
        }
        let attributes = section.attributes(endian, file).context("broken build attributes")?;
        let mut vendors = attributes.subsections().context("broken build attributes")?;
        while let Some(vendor) = vendors.next().context("broken build attributes")? {
            let mut scopes = vendor.subsubsections();
            while let Some(scope) = scopes.next().context("broken build attributes")? {
                if vendor.vendor() == b"aeabi" && scope.tag() == TAG_FILE {
                    let said = read(scope.attributes()).context("broken build attributes")?;
                    if said.is_some() {
                        return Ok(said);
                    }
                }
            }
        }
    }
    Ok(None)
}

fn read(mut attributes: AttributeReader<'_>) -> object::Result<Option<&'static str>> {
    while let Some(tag) = attributes.read_tag()? {
        match tag {
            TAG_CPU_RAW_NAME | TAG_CPU_NAME => drop(attributes.read_string()?),
            TAG_FP_ARCH if attributes.read_integer()? != 0 => {
                return Ok(Some("an FPU, whose instructions it uses"));
            }
            TAG_MVE_ARCH if attributes.read_integer()? != 0 => {
                return Ok(Some("MVE, whose registers are the FPU's"));
            }
            TAG_FP_ARCH | TAG_MVE_ARCH => {}
            TAG_COMPATIBILITY => {
                attributes.read_integer()?;
                attributes.read_string()?;
            }
            // §2.2.6: from there on, odd ones are text.
            tag if tag > TAG_COMPATIBILITY && tag % 2 == 1 => drop(attributes.read_string()?),
            _ => drop(attributes.read_integer()?),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOFT: &[u8] = include_bytes!("../../tests/fixtures/float/soft.elf");

    #[test]
    fn what_uses_the_fpu_is_refused_with_the_reason_and_the_remedy() {
        let cases: [(&[u8], &str); 3] = [
            (include_bytes!("../../tests/fixtures/float/hard.elf"), "hard-float ABI"),
            (include_bytes!("../../tests/fixtures/float/softfp.elf"), "an FPU"),
            (include_bytes!("../../tests/fixtures/float/mve.elf"), "MVE"),
        ];
        for (file, why) in cases {
            let said = refuse(file).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains("-mfloat-abi=soft"), "{said}");
        }
    }

    #[test]
    fn floats_that_libgcc_computes_pass_and_so_does_what_is_no_arm_elf() {
        refuse(SOFT).unwrap();
        refuse(b"#!holdfast-script\n").unwrap();
        for sdk in [
            include_bytes!("../../tests/fixtures/older/app-0.6.elf").as_slice(),
            include_bytes!("../../tests/fixtures/older/app-0.7.elf"),
        ] {
            refuse(sdk).unwrap();
        }
    }

    #[test]
    fn a_file_cut_short_or_spoiled_is_an_error_and_no_panic() {
        for cut in 0..SOFT.len() {
            let _ = refuse(&SOFT[..cut]);
        }
        for at in 0..SOFT.len() {
            let mut spoiled = SOFT.to_vec();
            spoiled[at] = !spoiled[at];
            let _ = refuse(&spoiled);
        }
    }
}
