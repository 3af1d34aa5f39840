//! An authority, and a certificate that it gave to this machine's loopback address: made by openssl for one test.
//!
//! The tests of the library include this file too: it stands on nothing but `std` and `tempfile`.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Files in a folder that ends with its handle.
pub struct Certificates(tempfile::TempDir);

impl Certificates {
    /// Of an authority that nobody knows yet, for a server that runs as this user and group, or as this process does.
    pub fn made_for(owner: Option<(u32, u32)>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for certificates");
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group)).expect("a folder of the server's own");
        }
        let names = "subjectAltName = IP:127.0.0.1\nbasicConstraints = CA:FALSE\n";
        fs::write(folder.path().join("names"), names).expect("the names of a server");
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        for arguments in [
            format!("req -x509 {key} -subj /CN=authority -keyout ca.key -out ca.pem"),
            format!("req {key} -subj /CN=server -keyout server.key -out server.csr"),
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem"
                .to_owned(),
        ] {
            let mut openssl = Command::new("openssl");
            if let Some((user, group)) = owner {
                openssl.uid(user).gid(group);
            }
            let output = openssl.args(arguments.split(' ')).current_dir(folder.path()).output().expect("openssl");
            assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Self(folder)
    }

    /// Where all of them are.
    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// The certificate that all others are made by.
    pub fn authority(&self) -> String {
        place(self.folder(), "ca.pem")
    }
}

/// One of the files: `ca.pem`, `server.pem` or `server.key`.
pub fn place(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("a path in UTF-8").to_owned()
}
