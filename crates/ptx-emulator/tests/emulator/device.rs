//! A program with its memory, and short ways to fill it, launch kernels and read results.

use vitrine_ptx_emulator::{Checks, DeviceMemory, Fault, LaunchConfig, PtxProgram, Stats};

/// The kernels of `fixtures/kernels.cu`.
pub const KERNELS: &str = include_str!("../fixtures/kernels.ptx");

/// One parameter of a kernel.
#[derive(Clone, Copy)]
pub enum Argument {
    Pointer(u64),
    Long(u64),
    Int(i32),
    Float(f32),
}

/// A device that runs one program.
pub struct EmulatedDevice {
    pub memory: DeviceMemory,
    pub program: PtxProgram,
    pub checks: Checks,
}

impl EmulatedDevice {
    pub fn new(ptx: &str) -> EmulatedDevice {
        let memory = DeviceMemory::new(1 << 30);
        let program = PtxProgram::load(ptx).unwrap_or_else(|error| panic!("{error}"));
        EmulatedDevice { memory, program, checks: Checks::default() }
    }

    pub fn empty(&mut self, bytes: u64) -> u64 {
        self.memory.alloc(bytes).expect("room for a buffer")
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> u64 {
        let address = self.empty(bytes.len() as u64);
        self.memory.write(address, bytes).expect("in bounds");
        address
    }

    pub fn floats(&mut self, values: &[f32]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(&bytes)
    }

    pub fn words(&mut self, values: &[u32]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(&bytes)
    }

    pub fn halves(&mut self, values: &[u16]) -> u64 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.bytes(&bytes)
    }

    pub fn read_bytes(&self, address: u64, count: usize) -> Vec<u8> {
        assert_eq!(self.memory.uninitialised(address, count as u64), Ok(None), "all was written");
        let mut bytes = vec![0; count];
        self.memory.read(address, &mut bytes).expect("in bounds");
        bytes
    }

    pub fn read_words(&self, address: u64, count: usize) -> Vec<u32> {
        let bytes = self.read_bytes(address, 4 * count);
        bytes.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
    }

    pub fn read_floats(&self, address: u64, count: usize) -> Vec<f32> {
        self.read_words(address, count).into_iter().map(f32::from_bits).collect()
    }

    pub fn launch(
        &mut self,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        parameters: &[Argument],
    ) -> Result<Stats, Fault> {
        let config = LaunchConfig { grid, block };
        let bytes = self.pack(kernel, parameters);
        let EmulatedDevice { memory, program, checks } = self;
        vitrine_ptx_emulator::launch(memory, program, kernel, &config, &bytes, checks)
    }

    /// The bytes of parameters at the offsets that the kernel declares.
    fn pack(&self, kernel: &str, parameters: &[Argument]) -> Vec<u8> {
        let Some(kernel) = self.program.kernel(kernel) else { return Vec::new() };
        let mut bytes = vec![0; kernel.param_bytes() as usize];
        assert_eq!(kernel.parameters().len(), parameters.len());
        for (declared, given) in kernel.parameters().iter().zip(parameters) {
            let value = match given {
                Argument::Pointer(value) | Argument::Long(value) => value.to_le_bytes().to_vec(),
                Argument::Int(value) => value.to_le_bytes().to_vec(),
                Argument::Float(value) => value.to_le_bytes().to_vec(),
            };
            assert_eq!(value.len(), declared.bytes() as usize, "{}", declared.name());
            bytes[declared.offset() as usize..][..value.len()].copy_from_slice(&value);
        }
        bytes
    }
}

/// A module with one kernel `k`.
pub fn module(parameters: &str, body: &str) -> String {
    format!(
        ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k({parameters})\n{{\n{body}\n}}\n"
    )
}

/// Pseudo-random numbers between -1 and 1.
pub fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_769).wrapping_add(1);
    let draw = |_| {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        let word = (state >> (state >> 28).wrapping_add(4) ^ state).wrapping_mul(277_803_737);
        ((word >> 22 ^ word) >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(draw).collect()
}
