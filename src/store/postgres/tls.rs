//! TLS to a Postgres.
//!
//! `sslmode=require`, `verify-ca` and `verify-full` are one here: the server's name and its chain are checked, against
//! the roots of the system or those of `sslrootcert`. `prefer`, the default, encrypts where the server can and asks
//! for no name, as everybody's does; `disable` does not.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

/// How a connection is wrapped, where it is.
#[derive(Clone)]
pub(crate) struct Tls(TlsConnector);

/// What a URL says of TLS.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Whose name is checked.
    pub(crate) is_checked: bool,
    /// A file of roots instead of the system's.
    pub(crate) roots: Option<String>,
}

/// Takes out of a URL what the driver does not know, and says what was in it.
pub(crate) fn read(url: &str) -> (String, Wanted) {
    let Some((before, query)) = url.split_once('?') else { return (url.to_owned(), Wanted::default()) };
    let mut wanted = Wanted::default();
    let mut left = Vec::new();
    for part in query.split('&') {
        match part.split_once('=') {
            Some(("sslrootcert", file)) => wanted.roots = Some(file.replace("%2F", "/").replace("%2f", "/")),
            Some(("sslmode", "require" | "verify-ca" | "verify-full")) => {
                wanted.is_checked = true;
                left.push("sslmode=require");
            }
            Some(_) | None => left.push(part),
        }
    }
    let url = if left.is_empty() { before.to_owned() } else { format!("{before}?{}", left.join("&")) };
    (url, wanted)
}

impl Tls {
    /// # Errors
    /// Roots that cannot be read, in a sentence for the operator.
    pub(crate) fn new(wanted: &Wanted) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = if wanted.is_checked {
            config.with_root_certificates(roots(wanted.roots.as_deref())?).with_no_client_auth()
        } else {
            let anybody = Arc::new(Anybody(provider));
            config.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

fn roots(file: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        // One that cannot be read leaves the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(
                "this system has no root certificates: install ca-certificates, or name a file in the \
                        URL's sslrootcert"
                    .to_owned(),
            );
        }
        return Ok(roots);
    };
    let read = |why: &dyn std::fmt::Display| format!("sslrootcert {file} cannot be read: {why}");
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| read(&error))? {
        let certificate = certificate.map_err(|error| read(&error))?;
        roots.add(certificate).map_err(|error| read(&error))?;
    }
    if roots.is_empty() { Err(read(&"there is no certificate in it")) } else { Ok(roots) }
}

/// Whoever answers: what is read on the way by others is hidden, and nothing else is promised.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for Tls {
    type Stream = Wrapped<S>;
    type TlsConnect = ToName;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<ToName, Self::Error> {
        Ok(ToName { connector: self.0.clone(), name: ServerName::try_from(host)?.to_owned() })
    }
}

/// One connection to be made.
pub(crate) struct ToName {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for ToName {
    type Stream = Wrapped<S>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Wrapped<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { Ok(Wrapped(Box::new(self.connector.connect(self.name, stream).await?))) })
    }
}

/// A connection within TLS.
pub(crate) struct Wrapped<S>(Box<tokio_rustls::client::TlsStream<S>>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Wrapped<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wrapped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wrapped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // S1
    #[test]
    fn what_a_url_says_of_tls_is_read_and_the_rest_left() {
        let read = |query: &str| super::read(&format!("postgres://a:b@h/d{query}"));
        let left = |query: &str| format!("postgres://a:b@h/d{query}");
        assert_eq!(read(""), (left(""), Wanted::default()));
        assert_eq!(read("?sslmode=prefer&a=b"), (left("?sslmode=prefer&a=b"), Wanted::default()));
        let checked = Wanted { is_checked: true, roots: None };
        for mode in ["require", "verify-ca", "verify-full"] {
            assert_eq!(
                read(&format!("?a=b&sslmode={mode}")),
                (left("?a=b&sslmode=require"), checked.clone())
            );
        }
        let roots = Wanted { is_checked: false, roots: Some("/etc/ca.pem".to_owned()) };
        assert_eq!(read("?sslrootcert=%2Fetc/ca.pem"), (left(""), roots));
    }

    // S1
    #[test]
    fn roots_that_are_none_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "nothing").unwrap();
        let wanted = Wanted { is_checked: true, roots: file.to_str().map(str::to_owned) };
        let Err(why) = Tls::new(&wanted) else { panic!("it took them") };
        assert!(why.contains("ca.pem"), "{why}");
    }
}
