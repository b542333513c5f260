//! Streams and events of the emulated device: what is done when. Work that should have been waited
//! for must give wrong data in the deferred mode, and right data with the wait.
#![cfg(feature = "emulator")]

mod device;

use std::ffi::c_void;
use std::ptr::null_mut;

use device::{EmulatedDevice, call, code, get};
use vitrine_cuda_driver::codes::*;
use vitrine_cuda_driver::emulator::StreamMode;
use vitrine_cuda_driver::types::*;

fn start() -> EmulatedDevice {
    EmulatedDevice::start(StreamMode::Deferred)
}

/// Enqueues a copy of host memory to the device.
fn upload(to: CUdeviceptr, from: &[u32], stream: CUstream) {
    call!(cuMemcpyHtoDAsync_v2(to, from.as_ptr().cast(), size_of_val(from), stream));
}

/// Enqueues a copy of four bytes on the device.
fn copy(to: CUdeviceptr, from: CUdeviceptr, stream: CUstream) {
    call!(cuMemcpyDtoDAsync_v2(to, from, 4, stream));
}

#[test]
fn pinned_memory_is_read_late_and_other_memory_at_once() {
    let device = start();
    let stream = device.stream();
    let (pinned, mut plain) = (device.pinned(&[1]), [1]);
    let (from_pinned, from_plain) = (device.alloc(4), device.alloc(4));
    upload(from_pinned, pinned, stream);
    upload(from_plain, &plain, stream);
    pinned[0] = 2;
    plain[0] = 2;
    call!(cuStreamSynchronize(stream));
    assert_eq!(device.download(from_pinned, 1), [2], "it was used again too early");
    assert_eq!(device.download(from_plain, 1), [1], "{plain:?}");
}

#[test]
fn pinned_memory_is_written_late_and_other_memory_before_the_call_returns() {
    let device = start();
    let stream = device.stream();
    let source = device.upload(&[5]);
    let (pinned, mut plain) = (device.pinned(&[0]), [0_u32]);
    call!(cuMemcpyDtoHAsync_v2(pinned.as_mut_ptr().cast(), source, 4, stream));
    assert_eq!(pinned[0], 0, "nobody has waited");
    call!(cuStreamSynchronize(stream));
    assert_eq!(pinned[0], 5);
    call!(cuMemcpyDtoHAsync_v2(plain.as_mut_ptr().cast(), source, 4, stream));
    assert_eq!(plain[0], 5);
}

#[test]
fn pinned_memory_stays_until_it_has_been_read() {
    let device = start();
    let stream = device.stream();
    let (pinned, target) = (device.pinned(&[3]), device.upload(&[0]));
    upload(target, pinned, stream);
    call!(cuMemFreeHost(pinned.as_mut_ptr().cast()));
    assert_eq!(device.download(target, 1), [3], "freeing it waited");
}

#[test]
fn an_event_that_is_recorded_again_elsewhere_forgets_the_first_stream() {
    let device = start();
    let (one, other) = (device.stream(), device.stream());
    let event = device.event();
    call!(cuEventRecord(event, one));
    call!(cuEventRecord(event, other));
    call!(cuStreamSynchronize(other));
    let mut time = 0.0;
    call!(cuEventElapsedTime(&mut time, event, event));
    call!(cuStreamSynchronize(one));
    call!(cuEventElapsedTime(&mut time, event, event));
}

#[test]
fn a_missing_wait_between_streams_gives_old_data() {
    for wait in [false, true] {
        let device = start();
        let (copies, compute) = (device.stream(), device.stream());
        let (input, output) = (device.upload(&[1]), device.upload(&[0]));
        let event = device.event();
        upload(input, &[2], copies);
        call!(cuEventRecord(event, copies));
        if wait {
            call!(cuStreamWaitEvent(compute, event, 0));
        }
        copy(output, input, compute);
        call!(cuStreamSynchronize(compute));
        assert_eq!(device.download(output, 1), [if wait { 2 } else { 1 }]);
    }
}

#[test]
fn a_wait_is_for_the_record_before_it() {
    let device = start();
    let (one, other) = (device.stream(), device.stream());
    let (input, output) = (device.upload(&[1]), device.upload(&[0]));
    let event = device.event();
    upload(input, &[2], one);
    call!(cuEventRecord(event, one));
    call!(cuStreamWaitEvent(other, event, 0));
    upload(input, &[3], one);
    call!(cuEventRecord(event, one));
    copy(output, input, other);
    call!(cuStreamSynchronize(other));
    assert_eq!(device.download(output, 1), [2]);
    call!(cuEventSynchronize(event));
    assert_eq!(device.download(input, 1), [3]);
}

#[test]
fn waits_reach_through_a_chain_of_streams() {
    let device = start();
    let streams: Vec<CUstream> = (0..5).map(|_| device.stream()).collect();
    let cells: Vec<CUdeviceptr> = (0..6).map(|_| device.upload(&[0])).collect();
    upload(cells[0], &[9], streams[0]);
    for (index, pair) in streams.windows(2).enumerate() {
        copy(cells[index + 1], cells[index], pair[0]);
        let event = device.event();
        call!(cuEventRecord(event, pair[0]));
        call!(cuStreamWaitEvent(pair[1], event, 0));
        // The wait has taken what it needs.
        call!(cuEventDestroy_v2(event));
    }
    copy(cells[5], cells[4], streams[4]);
    call!(cuStreamSynchronize(streams[4]));
    assert_eq!(device.download(cells[5], 1), [9]);
}

#[test]
fn each_way_of_waiting_has_the_work_done() {
    let device = start();
    let stream = device.stream();
    let target = device.pinned(&[0]);
    let source = device.upload(&[1]);
    type Wait<'a> = (&'a str, &'a dyn Fn());
    let event = device.event();
    let spare = device.alloc(4);
    let ways: [Wait; 3] = [
        ("cuStreamSynchronize", &|| call!(cuStreamSynchronize(stream))),
        ("cuEventSynchronize", &|| call!(cuEventSynchronize(event))),
        ("cuMemFree_v2", &|| call!(cuMemFree_v2(spare))),
    ];
    for (name, wait) in ways {
        target[0] = 0;
        call!(cuMemcpyDtoHAsync_v2(target.as_mut_ptr().cast(), source, 4, stream));
        call!(cuEventRecord(event, stream));
        assert_eq!(target[0], 0, "before {name}");
        wait();
        assert_eq!(target[0], 1, "after {name}");
    }
    call!(cuMemcpyDtoHAsync_v2(target.as_mut_ptr().cast(), source, 4, stream));
    target[0] = 0;
    call!(cuStreamDestroy_v2(stream));
    assert_eq!(target[0], 1, "a destroyed stream does its work");
    assert_eq!(code!(cuStreamSynchronize(stream)), CUDA_ERROR_INVALID_HANDLE);
}

#[test]
fn in_the_synchronous_mode_nothing_waits() {
    let device = EmulatedDevice::start(StreamMode::Synchronous);
    let stream = device.stream();
    let (target, source) = (device.pinned(&[0]), device.upload(&[1]));
    let event = device.event();
    call!(cuMemcpyDtoHAsync_v2(target.as_mut_ptr().cast(), source, 4, stream));
    call!(cuEventRecord(event, stream));
    assert_eq!(target[0], 1);
    let mut time = 0.0;
    call!(cuEventElapsedTime(&mut time, event, event));
}

#[test]
fn events_take_times() {
    let device = start();
    let stream = device.stream();
    let (first, second) = (device.event(), device.event());
    let mut time = -1.0;
    let invalid = CUDA_ERROR_INVALID_HANDLE;
    assert_eq!(code!(cuEventElapsedTime(&mut time, first, second)), invalid, "not recorded");
    call!(cuEventRecord(first, stream));
    call!(cuEventRecord(second, stream));
    let not_ready = CUDA_ERROR_NOT_READY;
    assert_eq!(code!(cuEventElapsedTime(&mut time, first, second)), not_ready);
    call!(cuEventSynchronize(second));
    call!(cuEventElapsedTime(&mut time, first, second));
    assert!((0.0..1e4).contains(&time), "{time} ms");
    let without_timing: CUevent = get!(cuEventCreate(2));
    call!(cuEventRecord(without_timing, stream));
    call!(cuStreamSynchronize(stream));
    assert_eq!(code!(cuEventElapsedTime(&mut time, first, without_timing)), invalid);
}

#[test]
fn drawn_orders_keep_what_streams_and_events_demand() {
    for seed in 0..40 {
        let device = EmulatedDevice::start(StreamMode::Shuffled(seed));
        let (copies, compute) = (device.stream(), device.stream());
        let staging = device.pinned(&[0]);
        let (input, sums) = (device.upload(&[0]), device.upload(&[0; 8]));
        let (uploaded, used) = (device.event(), device.event());
        for step in 0..8 {
            // One staging buffer and one input, each used again only after it has been read.
            call!(cuEventSynchronize(uploaded));
            staging[0] = step;
            call!(cuStreamWaitEvent(copies, used, 0));
            upload(input, staging, copies);
            call!(cuEventRecord(uploaded, copies));
            call!(cuStreamWaitEvent(compute, uploaded, 0));
            copy(sums + 4 * u64::from(step), input, compute);
            call!(cuEventRecord(used, compute));
        }
        call!(cuStreamSynchronize(compute));
        assert_eq!(device.download(sums, 8), [0, 1, 2, 3, 4, 5, 6, 7], "seed {seed}");
    }
}

#[test]
fn drawn_orders_show_that_memory_is_overwritten_too_early() {
    // The stream of copies does not wait until the input has been used. Doing the work as late as
    // possible does not show this; some of the drawn orders do.
    let outcome = |mode| {
        let device = EmulatedDevice::start(mode);
        let (copies, compute) = (device.stream(), device.stream());
        let (input, output) = (device.upload(&[1]), device.upload(&[0]));
        copy(output, input, compute);
        upload(input, &[2], copies);
        call!(cuStreamSynchronize(compute));
        device.download(output, 1)[0]
    };
    assert_eq!(outcome(StreamMode::Synchronous), 1);
    assert_eq!(outcome(StreamMode::Deferred), 1);
    let drawn: Vec<u32> = (0..40).map(|seed| outcome(StreamMode::Shuffled(seed))).collect();
    assert!(drawn.contains(&1) && drawn.contains(&2), "{drawn:?}");
    let again: Vec<u32> = (0..40).map(|seed| outcome(StreamMode::Shuffled(seed))).collect();
    assert_eq!(drawn, again, "a seed always gives the same order");
}

#[test]
fn wrong_handles_are_refused() {
    let device = start();
    let wrong = 0x33 as *mut c_void;
    let address = device.upload(&[1]);
    let stream = device.stream();
    let code = code!(cuMemcpyDtoDAsync_v2(address, address, 4, wrong));
    assert_eq!(code, CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(code!(cuStreamSynchronize(wrong)), CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(code!(cuEventRecord(wrong, stream)), CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(code!(cuEventRecord(device.event(), wrong)), CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(code!(cuStreamWaitEvent(stream, wrong, 0)), CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(code!(cuStreamDestroy_v2(wrong)), CUDA_ERROR_INVALID_HANDLE);
    assert_eq!(code!(cuStreamSynchronize(null_mut())), CUDA_ERROR_NOT_SUPPORTED, "no default");
    let mut stream = null_mut();
    let code = code!(cuStreamCreateWithPriority(&mut stream, 8, 0));
    assert_eq!(code, CUDA_ERROR_INVALID_VALUE);
}
