//! The payload of an enum event, without the name of its variant.
//!
//! serde writes the variant `Credited { cents: 5 }` as `{"Credited":{"cents":5}}`. The event type already identifies
//! the variant, so only `{"cents":5}` is stored: renaming a variant changes nothing in the log, other languages see
//! plain objects, and a struct with the same event type can decode it. [`write()`] and [`read`] handle a variant *at
//! the top level* and leave everything else to `serde_json`. An enum with its own tag (`#[serde(tag = "…")]`) is not a
//! variant to serde and keeps its tag.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor},
    ser::{SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleVariant},
};
use serde_json::{Error, Result, de::SliceRead};

/// Writes a value; for an enum, the content of its variant.
pub(super) fn write<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(128);
    value.serialize(Top(&mut serde_json::Serializer::new(&mut out)))?;
    Ok(out)
}

/// Reads a value; for an enum, the variant with this index out of `variants`.
pub(super) fn read<'de, T: Deserialize<'de>>(json: &'de [u8], variant: usize, variants: usize) -> Result<T> {
    let mut json = serde_json::Deserializer::from_slice(json);
    let value = T::deserialize(Variant { json: &mut json, variant, variants })?;
    json.end()?;
    Ok(value)
}

type Out<'o> = serde_json::Serializer<&'o mut Vec<u8>>;

/// A JSON serializer that writes a variant as its content.
struct Top<'a, 'o>(&'a mut Out<'o>);

/// Methods that are forwarded to `serde_json`.
macro_rules! write_as_json {
    ($($method:ident($($arg:ident: $ty:ty),*);)*) => {$(
        fn $method(self, $($arg: $ty),*) -> Result<()> {
            self.0.$method($($arg),*)
        }
    )*};
}

macro_rules! begin_as_json {
    ($($method:ident($($arg:ident: $ty:ty),*) -> $compound:ident;)*) => {$(
        fn $method(self, $($arg: $ty),*) -> Result<Self::$compound> {
            self.0.$method($($arg),*)
        }
    )*};
}

impl<'a, 'o> Serializer for Top<'a, 'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = <&'a mut Out<'o> as Serializer>::SerializeSeq;
    type SerializeTuple = <&'a mut Out<'o> as Serializer>::SerializeTuple;
    type SerializeTupleStruct = <&'a mut Out<'o> as Serializer>::SerializeTupleStruct;
    type SerializeTupleVariant = Content<Self::SerializeTuple>;
    type SerializeMap = <&'a mut Out<'o> as Serializer>::SerializeMap;
    type SerializeStruct = <&'a mut Out<'o> as Serializer>::SerializeStruct;
    type SerializeStructVariant = Content<Self::SerializeStruct>;

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<()> {
        self.0.serialize_unit()
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        content: &T,
    ) -> Result<()> {
        content.serialize(self.0)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant> {
        self.0.serialize_tuple(len).map(Content)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant> {
        self.0.serialize_struct(name, len).map(Content)
    }

    write_as_json! {
        serialize_bool(v: bool);
        serialize_i8(v: i8);
        serialize_i16(v: i16);
        serialize_i32(v: i32);
        serialize_i64(v: i64);
        serialize_i128(v: i128);
        serialize_u8(v: u8);
        serialize_u16(v: u16);
        serialize_u32(v: u32);
        serialize_u64(v: u64);
        serialize_u128(v: u128);
        serialize_f32(v: f32);
        serialize_f64(v: f64);
        serialize_char(v: char);
        serialize_str(v: &str);
        serialize_bytes(v: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
    }

    begin_as_json! {
        serialize_seq(len: Option<usize>) -> SerializeSeq;
        serialize_tuple(len: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        serialize_map(len: Option<usize>) -> SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct;
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<()> {
        self.0.serialize_some(value)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, name: &'static str, value: &T) -> Result<()> {
        self.0.serialize_newtype_struct(name, value)
    }
}

/// The fields of a variant, written as those of a tuple or struct.
struct Content<C>(C);

impl<C: SerializeTuple> SerializeTupleVariant for Content<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, value: &T) -> std::result::Result<(), C::Error> {
        self.0.serialize_element(value)
    }

    fn end(self) -> std::result::Result<C::Ok, C::Error> {
        self.0.end()
    }
}

impl<C: SerializeStruct> SerializeStructVariant for Content<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> std::result::Result<(), C::Error> {
        self.0.serialize_field(key, value)
    }

    fn end(self) -> std::result::Result<C::Ok, C::Error> {
        self.0.end()
    }
}

/// A JSON deserializer that, for an enum, returns this variant with the whole text as its content.
struct Variant<'a, 'de> {
    json: &'a mut serde_json::Deserializer<SliceRead<'de>>,
    variant: usize,
    variants: usize,
}

macro_rules! read_as_json {
    ($($method:ident($($arg:ident: $ty:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($arg: $ty,)* visitor: V) -> Result<V::Value> {
            self.json.$method($($arg,)* visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        if known.len() != self.variants {
            return Err(de::Error::custom("serde skips a variant that the family has"));
        }
        visitor.visit_enum(Chosen { name: known[self.variant], json: self.json })
    }

    read_as_json! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }
}

/// The variant selected by the event type.
struct Chosen<'a, 'de> {
    name: &'static str,
    json: &'a mut serde_json::Deserializer<SliceRead<'de>>,
}

impl<'de> EnumAccess<'de> for Chosen<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self)> {
        let name: de::value::StrDeserializer<'_, Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Chosen<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        // Any payload of a unit variant is ignored.
        de::IgnoredAny::deserialize(self.json).map(|_| ())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self.json)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value> {
        self.json.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value> {
        self.json.deserialize_struct(self.name, fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nested {
        kind: Kind,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Plain,
        Sized(u8),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Family {
        Empty,
        Whole(Nested),
        Pair(u8, String),
        Fields { a: u8, nested: Option<Kind> },
    }

    fn check<T: PartialEq + std::fmt::Debug + Serialize + de::DeserializeOwned>(value: T, variant: usize, json: &str) {
        let written = write(&value).unwrap();
        assert_eq!(std::str::from_utf8(&written).unwrap(), json);
        assert_eq!(read::<T>(&written, variant, 4).unwrap(), value);
    }

    #[test]
    fn a_variant_stands_as_its_content_alone() {
        check(Family::Empty, 0, "null");
        check(Family::Whole(Nested { kind: Kind::Plain }), 1, r#"{"kind":"Plain"}"#);
        check(Family::Pair(1, "x".into()), 2, r#"[1,"x"]"#);
        check(Family::Fields { a: 1, nested: Some(Kind::Sized(2)) }, 3, r#"{"a":1,"nested":{"Sized":2}}"#);
    }

    #[test]
    fn what_is_no_variant_at_the_top_stands_as_json() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        enum Tagged {
            A { n: u8 },
        }
        check(Nested { kind: Kind::Sized(3) }, 0, r#"{"kind":{"Sized":3}}"#);
        check(Tagged::A { n: 1 }, 0, r#"{"kind":"A","n":1}"#);
        check(vec![Some(1), None], 0, "[1,null]");
        check((), 0, "null");
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        let error = read::<Family>(br#"{"a":"x"}"#, 3, 4).unwrap_err().to_string();
        assert_eq!(error, "invalid type: string \"x\", expected u8 at line 1 column 8");
        assert!(read::<Family>(br#"{"kind":"Plain"} x"#, 1, 4).unwrap_err().to_string().contains("trailing"));
        let error = read::<Family>(b"null", 0, 5).unwrap_err().to_string();
        assert_eq!(error, "serde skips a variant that the family has");
    }
}
