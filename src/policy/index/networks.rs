//! Which networks hold an address: one look-up for each length of prefix that there is.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;

/// Networks by number, in the order they were added.
#[derive(Debug, Default)]
pub(super) struct Networks {
    by_network: HashMap<IpNet, Vec<u32>>,
    /// The lengths that occur, of both families.
    lengths: Vec<(bool, u8)>,
}

impl Networks {
    pub(super) fn add(&mut self, network: IpNet, id: u32) {
        let network = network.trunc();
        let length = (network.addr().is_ipv4(), network.prefix_len());
        if !self.lengths.contains(&length) {
            self.lengths.push(length);
        }
        self.by_network.entry(network).or_default().push(id);
    }

    pub(super) fn find(&self, address: IpAddr, mut found: impl FnMut(u32)) {
        for &(is_ipv4, length) in &self.lengths {
            if address.is_ipv4() == is_ipv4
                && let Ok(network) = IpNet::new(address, length)
                && let Some(ids) = self.by_network.get(&network.trunc())
            {
                ids.iter().copied().for_each(&mut found);
            }
        }
    }
}
