//! Bounded reading of CBOR: a length is compared with its limit before anything is done with it.

use minicbor::Decoder;
use minicbor::decode::Error;

/// Reads the head of a list whose entries take `each` items; returns the number of entries, at most `max`.
pub(crate) fn list(d: &mut Decoder<'_>, each: u64, max: usize) -> Result<u64, Error> {
    let at = d.position();
    let items = d
        .array()?
        .ok_or_else(|| Error::message("list of unknown length").at(at))?;
    if !items.is_multiple_of(each) || items / each > max as u64 {
        return Err(Error::message("list too long").at(at));
    }
    Ok(items / each)
}

/// Reads the head of a structure of at least `known` fields; returns how many later fields to skip at its end.
pub(crate) fn fields(d: &mut Decoder<'_>, known: u64) -> Result<u64, Error> {
    let at = d.position();
    let items = d
        .array()?
        .ok_or_else(|| Error::message("structure of unknown length").at(at))?;
    match items.checked_sub(known) {
        Some(later) if later <= MAX_LATER => Ok(later),
        _ => Err(Error::message("structure of another length").at(at)),
    }
}

/// Skips `later` fields of a newer version, then checks that nothing follows.
pub(crate) fn finish(d: &mut Decoder<'_>, later: u64) -> Result<(), Error> {
    skip(d, later)?;
    if d.position() == d.input().len() {
        Ok(())
    } else {
        Err(Error::message("bytes after the end"))
    }
}

/// Skips `later` fields of a newer version.
pub(crate) fn skip(d: &mut Decoder<'_>, later: u64) -> Result<(), Error> {
    (0..later).try_for_each(|_| d.skip())
}

/// Reads a byte string of at most `max` bytes.
pub(crate) fn bytes(d: &mut Decoder<'_>, max: usize) -> Result<Vec<u8>, Error> {
    let at = d.position();
    let bytes = d.bytes()?;
    if bytes.len() > max {
        Err(Error::message("bytes too long").at(at))
    } else {
        Ok(bytes.to_vec())
    }
}

/// Takes the result of writing into memory, which cannot fail.
pub(crate) fn written(result: Result<(), minicbor::encode::Error<std::convert::Infallible>>) {
    debug_assert!(result.is_ok(), "writing CBOR into memory failed");
}

/// Fields a later version may have added to a structure.
const MAX_LATER: u64 = 16;
