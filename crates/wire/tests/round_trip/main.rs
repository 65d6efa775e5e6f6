//! What is encoded decodes to the same, whatever the fields are; what is broken is an error and
//! never a panic; and an independent codec reads and writes the same octets.

mod broken;
mod frames;
mod material;
mod methods;
mod peer;
mod properties;
mod tables;
