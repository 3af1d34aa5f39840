//! Who sends: the principal of a request (I1).

use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use crate::http::Reason;
use crate::protocol::record::Principal;

/// The digest of the first present of `names`, else of `anonymous`.
///
/// # Errors
/// 400 where that header stands twice: which of the two counts would be a guess.
pub fn principal(headers: &HeaderMap, names: &[HeaderName]) -> Result<Principal, Reason> {
    let Some((name, line)) = shown(headers, names)? else {
        return Ok(Principal(*b"anonymous......................."));
    };
    let mut hash = Sha256::new();
    // The name too: a value in one header is not the same value in another.
    hash.update(name.as_str());
    hash.update(b"\0");
    hash.update(line.as_bytes());
    Ok(Principal(hash.finalize().into()))
}

/// Whether an identity is shown once, where nothing is kept under it and no digest of it is needed: a read.
///
/// # Errors
/// As [`principal`].
pub fn is_one(headers: &HeaderMap, names: &[HeaderName]) -> Result<(), Reason> {
    shown(headers, names).map(drop)
}

/// The first present of `names`.
fn shown<'a>(
    headers: &'a HeaderMap,
    names: &'a [HeaderName],
) -> Result<Option<(&'a HeaderName, &'a HeaderValue)>, Reason> {
    for name in names {
        let mut lines = headers.get_all(name).iter();
        let Some(line) = lines.next() else { continue };
        if lines.next().is_some() {
            return Err(Reason::BadRequest(format!(
                "The {name} header stands more than once in the request."
            )));
        }
        return Ok(Some((name, line)));
    }
    Ok(None)
}
