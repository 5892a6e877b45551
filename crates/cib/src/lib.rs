//! CIBs: the stacks that Hastor has templates of, and what is read from a cluster's configuration and done to it.
//!
//! Everything here is text in, text or values out: nothing runs a command and nothing reads a file. The program `hastor`
//! does that, by Pacemaker's own tools.
//!
//! - [`Stack`]: a template with the declaration of its values, and the CIB that it is with values of somebody's own
//! - [`Element`]: XML as a tree
//! - [`merge`] and [`changes`]: a stack put into the configuration of a cluster that has other things too
//! - [`crm_script`] and [`pcs_script`]: a CIB as the commands that would have made it
//! - [`Status`]: what `crm_mon` says
//! - [`Simulation`]: what `crm_simulate` says

mod configuration;
mod element;
mod scripts;
mod simulation;
mod stack;
mod status;
mod values;

pub use configuration::{
    Change, changes, is_secret, members, merge, retire, with_configuration, with_devices_of,
};
pub use element::Element;
pub use scripts::{crm_script, pcs_script};
pub use simulation::{Simulation, joined};
pub use stack::Stack;
pub use status::{Failure, Fencing, Node, Resource, Status};
