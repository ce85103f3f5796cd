//! Randomness, as an argument.

use std::sync::Arc;

/// Where random bytes come from. `fill` is fit for keys.
pub trait Rng: Send + Sync + 'static {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);

    /// A random 64-bit number.
    fn u64(&self) -> u64 {
        let mut b = [0; 8];
        self.fill(&mut b);
        u64::from_le_bytes(b)
    }

    /// A random 128-bit number.
    fn u128(&self) -> u128 {
        let mut b = [0; 16];
        self.fill(&mut b);
        u128::from_le_bytes(b)
    }
}

/// A shared source of randomness.
pub type SharedRng = Arc<dyn Rng>;

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn fill(&self, out: &mut [u8]) {
        use ring::rand::SecureRandom;
        // The system generator fails only where the kernel has none: going on with zeros would make
        // predictable keys, so this ends the process.
        if ring::rand::SystemRandom::new().fill(out).is_err() {
            std::process::abort();
        }
    }
}
