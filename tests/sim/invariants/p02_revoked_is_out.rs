//! P2: once a revocation is acknowledged, no connection with that token is served anywhere, then or later.
//!
//! Not wider: of all changes that restrict, revocations stand for the others, which take the same way. The one
//! second that a connection may live counts from when its node has applied the change; the acknowledgement waits
//! for the workers, so at that moment there is none left to count.

use crate::world::World;

impl World {
    pub fn p02_check(&mut self) {
        let suspects = self.socks.ids(|sock| sock.served && sock.life.is_some());
        for id in suspects {
            let jti = self.socks.get(id).jti.clone();
            if self.oracle.revoked.contains(&jti) && self.serving(id) {
                self.broken(format!("P2: connection {id} is served with the revoked token {jti}"));
            }
        }
    }
}
