//! The protocol-buffer wire format as far as log records need it, read strictly: damage must not pass for data.
//!
//! The generated decoders skip unknown fields and accept much; inside a record whose checksum does not cover its own
//! header that would let a flipped bit turn one kind of record into another unnoticed.

use bytes::BufMut;

/// One field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    pub fn varint(self) -> Option<u64> {
        match self {
            Value::Varint(value) => Some(value),
            Value::Bytes(_) => None,
        }
    }
}

/// Takes the next field off `input`; `None` means malformed. Only varint and length-delimited fields occur in logs.
pub fn take_field<'a>(input: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = take_varint(input)?;
    match tag & 7 {
        0 => Some((tag >> 3, Value::Varint(take_varint(input)?))),
        2 => {
            let length = usize::try_from(take_varint(input)?).ok()?;
            let (value, rest) = input.split_at_checked(length)?;
            *input = rest;
            Some((tag >> 3, Value::Bytes(value)))
        }
        _ => None,
    }
}

/// Takes a varint in its shortest form off `input`.
pub fn take_varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (at, byte) in input.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if at == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * at);
        if byte & 0x80 == 0 {
            if *byte == 0 && at > 0 {
                return None;
            }
            *input = &input[at + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends a varint.
pub fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Appends a varint field, zero included.
pub fn put_varint_field(out: &mut impl BufMut, field: u8, value: u64) {
    out.put_u8(field << 3);
    put_varint(out, value);
}

/// How many bytes a varint takes.
pub fn varint_length(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_and_long_forms_are_refused() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_length(value));
            let mut input = &out[..];
            assert_eq!(take_varint(&mut input), Some(value));
            assert!(input.is_empty());
        }
        assert_eq!(take_varint(&mut &[0x80, 0x00][..]), None);
        assert_eq!(take_varint(&mut &[0xff; 11][..]), None);
        assert_eq!(take_varint(&mut &[0x80][..]), None);
    }
}
