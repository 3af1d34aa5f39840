//! Who sends: the principal of a request (I1).

use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use crate::http::Reason;
use crate::protocol::record::Principal;

/// The digest of the first present of `names`, else of `anonymous`.
///
/// # Errors
/// 400 where that header stands twice: which of the two counts would be a guess.
pub fn principal(headers: &HeaderMap, names: &[HeaderName]) -> Result<Principal, Reason> {
    for name in names {
        let mut lines = headers.get_all(name).iter();
        let Some(line) = lines.next() else { continue };
        if lines.next().is_some() {
            return Err(Reason::BadRequest(format!(
                "The {name} header stands more than once in the request."
            )));
        }
        let mut hash = Sha256::new();
        // The name too: a value in one header is not the same value in another.
        hash.update(name.as_str());
        hash.update(b"\0");
        hash.update(line.as_bytes());
        return Ok(Principal(hash.finalize().into()));
    }
    Ok(Principal(*b"anonymous......................."))
}
