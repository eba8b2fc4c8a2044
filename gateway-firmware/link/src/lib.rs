//! IP and TLS for boards that have neither: DHCP, DNS, TCP and TLS 1.3 over any Ethernet device.
#![no_std]
