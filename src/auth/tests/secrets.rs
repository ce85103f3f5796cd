use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rookery_cluster::metadata::Scope;

use super::*;

#[test]
fn sealing_is_reversed_by_the_same_key_and_purpose_only() {
    let (rng, sealer) = (Counting::default(), Sealer::new([1; 32], &[]));
    let sealed = sealer.seal(b"purpose", b"secret", &rng);
    assert_eq!(sealed.len(), 1 + 8 + 12 + 6 + 16);
    assert_eq!(sealer.unseal(b"purpose", &sealed).as_deref(), Ok(&b"secret"[..]));
    assert_eq!(sealer.unseal(b"other", &sealed), Err(Unsealable));
    assert_eq!(Sealer::new([2; 32], &[]).unseal(b"purpose", &sealed), Err(Unsealable));
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        assert_eq!(sealer.unseal(b"purpose", &damaged), Err(Unsealable));
        assert_eq!(sealer.unseal(b"purpose", &sealed[..at]), Err(Unsealable));
    }
    assert_ne!(sealer.seal(b"purpose", b"secret", &rng), sealed, "a nonce is not used twice");
    let rotated = Sealer::new([2; 32], &[[1; 32]]);
    assert_eq!(rotated.unseal(b"purpose", &sealed).as_deref(), Ok(&b"secret"[..]));
    assert_eq!(rotated.current_key(), [2; 32]);
}

/// A folder of its own for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rookery-auth-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_key_file_is_its_owners_alone() {
    let folder = Folder::new("mode");
    let path = folder.0.join("cluster.key");
    let made = Sealer::load_or_create(&path, &Counting::default()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let loaded = Sealer::load_or_create(&path, &Counting(7.into())).unwrap();
    assert_eq!(made.current_key(), loaded.current_key());
    assert!(matches!(Sealer::create(&path, [0; 32]), Err(KeyFileError::Io(_))), "never overwritten");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Sealer::load(&path), Err(KeyFileError::Mode(0o640))));
}

#[test]
fn the_key_file_holds_older_keys_too() {
    let folder = Folder::new("older");
    let path = folder.0.join("cluster.key");
    let write = |text: &str| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write(&format!("{}\n\n{}\n", "02".repeat(32), "01".repeat(32)));
    let sealer = Sealer::load(&path).unwrap();
    assert_eq!(sealer.current_key(), [2; 32]);
    let old = Sealer::new([1; 32], &[]).seal(b"p", b"s", &Counting::default());
    assert!(sealer.unseal(b"p", &old).is_ok());
    write("02\n");
    assert!(matches!(Sealer::load(&path), Err(KeyFileError::Line(1))));
    write("\n");
    assert!(matches!(Sealer::load(&path), Err(KeyFileError::Empty)));
}

fn create_token(world: &mut World, expires: Option<UnixMillis>) -> NewApiToken {
    let new = new_api_token(&world.rng);
    let (id, hash) = (new.id, new.hash);
    world.apply(CommandBody::CreateToken { id, hash, name: "ci".into(), scope: Scope::All, expires });
    new
}

#[test]
fn api_tokens_are_checked() {
    let mut world = World::new();
    let (one, two) = (create_token(&mut world, Some(after(60))), create_token(&mut world, None));
    let check = |world: &World, text: &str, now| check_api_token(&world.state, text, now).map(|token| token.id);
    assert_eq!(check(&world, &one.text, NOW), Ok(one.id));
    assert_eq!(check(&world, &one.text, UnixMillis(after(60).0 - 1)), Ok(one.id));
    assert_eq!(check(&world, &one.text, after(60)), Err(TokenDenied::Expired));
    assert_eq!(check(&world, &two.text, after(1 << 40)), Ok(two.id));

    let (_, secret) = two.text.rsplit_once('_').unwrap();
    let mixed = format!("rkt_{}_{secret}", one.id);
    assert_eq!(check(&world, &mixed, NOW), Err(TokenDenied::Unknown));
    for text in ["", "rkt_", "rkt__", &one.text[4..], &one.text[..one.text.len() - 1], &format!("{}0", one.text)] {
        assert_eq!(check(&world, text, NOW), Err(TokenDenied::Malformed), "{text}");
    }
    assert_eq!(one.text.len(), 4 + 32 + 1 + 64);

    world.apply(CommandBody::RevokeToken { id: two.id });
    assert_eq!(check(&world, &two.text, NOW), Err(TokenDenied::Unknown));
}
