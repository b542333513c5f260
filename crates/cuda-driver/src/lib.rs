//! The functions of the CUDA driver that `cust` links against, forwarded to the system's driver or to an emulator.
