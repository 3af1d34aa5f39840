//! How a table of section T is declared.

use serde_json::Value as Json;

/// A table that may stand at the top and in a route.
pub(super) trait Layer {
    /// These keys, and below them those of another.
    fn over(self, below: Self) -> Self;
}

/// Declares tables: `/// what a key does`, `key: Type = default where it is always the same`. After the name
/// stand the keys that must be there.
macro_rules! tables {
    ($($(#[doc = $about:literal])+ $table:ident($($required:literal),*) {
        $($(#[doc = $doc:literal])+ $key:ident: $part:ty $(= $default:tt)?,)*
    })*) => {$(
        $(#[doc = $about])+
        #[derive(Debug, Clone, Default)]
        pub(super) struct $table {
            $($(#[doc = $doc])+ pub(super) $key: Option<At<$part>>,)*
        }

        impl $crate::config::reader::Part for $table {
            fn what() -> String {
                "a table".into()
            }

            fn read(
                node: &$crate::config::reader::Node<'_>,
                reader: &mut $crate::config::reader::Reader<'_>,
            ) -> Option<Self> {
                use $crate::config::table::key;

                let mut fields = $crate::config::reader::Fields::of::<Self>(node, reader)?;
                let table = Self { $($key: fields.take(key(stringify!($key)), reader),)* };
                fields.finish(&[$($required),*], reader);
                Some(table)
            }

            fn schema() -> serde_json::Value {
                use $crate::config::table::{described, key};

                let mut keys = serde_json::Map::new();
                $(
                    let about = concat!($($doc),+).trim();
                    let default: Option<serde_json::Value> = None $(.or(Some(serde_json::json!($default))))?;
                    keys.insert(key(stringify!($key)).to_owned(), described(<$part>::schema(), about, default));
                )*
                let required: &[&str] = &[$($required),*];
                serde_json::json!({
                    "type": "object",
                    "properties": keys,
                    "required": required,
                    "additionalProperties": false,
                })
            }
        }

        impl $crate::config::table::Layer for $table {
            fn over(self, below: Self) -> Self {
                Self { $($key: self.$key.or(below.$key),)* }
            }
        }
    )*};
}

pub(super) use tables;

/// The key that a field is named for.
pub(super) fn key(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

pub(super) fn described(mut schema: Json, about: &str, default: Option<Json>) -> Json {
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".into(), about.into());
        schema.extend(default.map(|default| ("default".to_owned(), default)));
    }
    schema
}
