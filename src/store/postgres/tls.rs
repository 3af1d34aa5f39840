//! What of `sslmode` this build can do.

use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};

/// How a connection is wrapped.
pub(super) type Tls = NoTls;

/// For a configuration.
///
/// # Errors
/// Where it asks for what cannot be had: nobody's password goes over the wire in clear by mistake.
pub(super) fn for_config(config: &Config) -> Result<Tls, String> {
    match config.get_ssl_mode() {
        SslMode::Disable | SslMode::Prefer => Ok(NoTls),
        SslMode::Require | _ => Err("sslmode=require: this build speaks no TLS to a Postgres; put a local pgbouncer or stunnel between, \
                  which does, or set sslmode=disable on a network that is yours alone"
            .to_owned()),
    }
}
