//! The file of a unix socket: who may use it, and when it goes away.

use std::fs::Metadata;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use socket2::{Domain, SockAddr, Type};

use crate::config::UnixOwner;

/// Where a unix socket is bound, and who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixAddress {
    /// The socket file.
    pub path: PathBuf,
    /// Its owner, if not the user of this process.
    pub owner: Option<UnixOwner>,
    /// Its permission bits.
    pub mode: u32,
}

/// The file of a bound unix socket, removed when dropped if it is still the same file.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// A file system may give the number of a removed file to the next one, hence the time.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    created: Option<SystemTime>,
}

/// Binds and listens; a socket file that nobody answers behind is replaced.
pub(crate) fn bind(address: &UnixAddress, backlog: i32) -> io::Result<(UnixListener, SocketFile)> {
    let UnixAddress { path, owner, mode } = address;
    let owner = owner.as_ref().map(ids_of).transpose()?;
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux gives the file the mode of the descriptor, so it is never open to others for a moment.
    rustix::fs::fchmod(socket.as_fd(), rustix::fs::Mode::from_raw_mode(OWNER_ONLY))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile {
        path: path.clone(),
        identity: Identity::of(&std::fs::symlink_metadata(path)?),
    };
    if let Some(Ids { user, group }) = owner {
        std::os::unix::fs::lchown(path, user, group)?;
    }
    // Last, so that the bits never hold for the former group.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode))?;
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| Identity::of(&metadata) == self.identity);
        if is_ours {
            // A file that cannot be removed is replaced by the next start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            created: metadata.created().ok(),
        }
    }
}

/// Removes a socket file that nobody listens behind; leaves every other file alone.
fn remove_stale(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

struct Ids {
    user: Option<u32>,
    group: Option<u32>,
}

/// Whether the system knows the owner.
///
/// # Errors
/// It does not, or cannot be asked.
pub fn check_owner(owner: &UnixOwner) -> io::Result<()> {
    ids_of(owner).map(drop)
}

fn ids_of(owner: &UnixOwner) -> io::Result<Ids> {
    let id = |name: &Option<String>, file: &'static str| {
        name.as_deref().map(|name| id_of(name, file)).transpose()
    };
    Ok(Ids {
        user: id(&owner.user, "/etc/passwd")?,
        group: id(&owner.group, "/etc/group")?,
    })
}

/// The name of a user of this machine, or the number as text.
pub(crate) fn user_name_of(id: u32) -> String {
    let lines = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| id.to_string())
}

/// # Shape
/// Both files hold lines of `name:password:id:..`.
fn id_of(name: &str, file: &str) -> io::Result<u32> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let lines = std::fs::read_to_string(file)?;
    let id = lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        let is_named = fields.next() == Some(name);
        fields.nth(1).filter(|_| is_named)?.parse().ok()
    });
    id.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("{name:?} is not in {file}"),
        )
    })
}

const OWNER_ONLY: u32 = 0o600;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> UnixAddress {
        let file = format!("tidewire-{name}-{}.sock", std::process::id());
        UnixAddress {
            path: std::env::temp_dir().join(file),
            owner: None,
            mode: 0o660,
        }
    }

    #[test]
    fn a_socket_file_is_replaced_only_when_nobody_answers_behind_it() {
        let address = address("stale");
        let (listener, file) = bind(&address, 16).expect("bound");
        let mode = std::fs::metadata(&address.path).expect("file").mode();
        assert_eq!(mode & 0o777, 0o660);
        let second = bind(&address, 16).expect_err("in use");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        // As after a crash: the file stays, and nobody listens.
        std::mem::forget(file);
        drop(listener);
        let (_, file) = bind(&address, 16).expect("stale file replaced");
        drop(file);
        assert!(!address.path.exists(), "removed with its owner");
        std::fs::write(&address.path, b"data").expect("written");
        bind(&address, 16).expect_err("not a socket");
        assert_eq!(std::fs::read(&address.path).expect("kept"), b"data");
        std::fs::remove_file(&address.path).expect("removed");
    }

    #[test]
    fn a_socket_file_of_somebody_else_is_not_removed() {
        let address = address("foreign");
        let (_, first) = bind(&address, 16).expect("bound");
        std::fs::remove_file(&address.path).expect("removed");
        let (_, second) = bind(&address, 16).expect("bound again");
        drop(first);
        assert!(address.path.exists());
        drop(second);
        assert!(!address.path.exists());
    }

    #[test]
    fn the_owner_is_set_by_name_or_number() {
        let mut address = address("owner");
        let (user, group) = (rustix::process::getuid(), rustix::process::getgid());
        let own = format!("{}:{}", user.as_raw(), group.as_raw());
        address.owner = Some(own.parse().expect("owner"));
        let (_, file) = bind(&address, 16).expect("one may give a file to oneself");
        drop(file);
        assert_eq!(id_of("root", "/etc/passwd").expect("root"), 0);
        if user.is_root() {
            address.owner = Some("4711:root".parse().expect("owner"));
            let (_, _file) = bind(&address, 16).expect("bound");
            let metadata = std::fs::metadata(&address.path).expect("file");
            assert_eq!((metadata.uid(), metadata.gid()), (4711, 0));
        }
        address.owner = Some("nobody-of-this-name".parse().expect("owner"));
        let error = bind(&address, 16).expect_err("unknown").to_string();
        assert!(error.contains("nobody-of-this-name"), "{error}");
        assert!(!address.path.exists());
    }
}
