//! The one table of the driver's functions: names and signatures as in `cuda.h`, nothing else.
//!
//! The exported functions, the symbols looked up in a system library and the calls of the emulated
//! device are all made from it; the tests run through it too. A function is added with one line.

/// Hands the table to the macro `$then`, in three groups:
///
/// - `answered`: what this crate answers itself where there is no system driver;
/// - `emulated`: this repository calls it, and the emulated device has it, in `emulator`, under the
///   same name;
/// - `system_only`: with the emulated device the result is `CUDA_ERROR_NOT_SUPPORTED`.
///
/// All functions return `CUresult`. The types are those of [`types`](crate::types).
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_function {
    ($then:ident) => {
        $then! {
            answered {
                fn cuGetErrorName(error: CUresult, pStr: *mut *const c_char);
                fn cuGetErrorString(error: CUresult, pStr: *mut *const c_char);
            }
            emulated {
                fn cuInit(Flags: c_uint);
                fn cuDriverGetVersion(driverVersion: *mut c_int);
                fn cuDeviceGetCount(count: *mut c_int);
                fn cuDeviceGet(device: *mut CUdevice, ordinal: c_int);
                fn cuDeviceGetName(name: *mut c_char, len: c_int, dev: CUdevice);
                fn cuDeviceGetAttribute(pi: *mut c_int, attrib: CUdevice_attribute, dev: CUdevice);
                fn cuDevicePrimaryCtxRetain(pctx: *mut CUcontext, dev: CUdevice);
                fn cuDevicePrimaryCtxRelease_v2(dev: CUdevice);
                fn cuCtxSetCurrent(ctx: CUcontext);
                fn cuModuleLoadDataEx(
                    module: *mut CUmodule, image: *const c_void, numOptions: c_uint,
                    options: *mut CUjit_option, optionValues: *mut *mut c_void,
                );
                fn cuModuleGetFunction(hfunc: *mut CUfunction, hmod: CUmodule, name: *const c_char);
                fn cuLaunchKernel(
                    f: CUfunction, gridDimX: c_uint, gridDimY: c_uint, gridDimZ: c_uint,
                    blockDimX: c_uint, blockDimY: c_uint, blockDimZ: c_uint, sharedMemBytes: c_uint,
                    hStream: CUstream, kernelParams: *mut *mut c_void, extra: *mut *mut c_void,
                );
                fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize);
                fn cuMemAlloc_v2(dptr: *mut CUdeviceptr, bytesize: usize);
                fn cuMemFree_v2(dptr: CUdeviceptr);
                fn cuMemAllocHost_v2(pp: *mut *mut c_void, bytesize: usize);
                fn cuMemFreeHost(p: *mut c_void);
                fn cuMemcpyHtoDAsync_v2(
                    dstDevice: CUdeviceptr, srcHost: *const c_void, ByteCount: usize,
                    hStream: CUstream,
                );
                fn cuMemcpyDtoHAsync_v2(
                    dstHost: *mut c_void, srcDevice: CUdeviceptr, ByteCount: usize,
                    hStream: CUstream,
                );
                fn cuMemcpyDtoDAsync_v2(
                    dstDevice: CUdeviceptr, srcDevice: CUdeviceptr, ByteCount: usize,
                    hStream: CUstream,
                );
                fn cuMemsetD8Async(
                    dstDevice: CUdeviceptr, uc: c_uchar, N: usize, hStream: CUstream,
                );
                fn cuStreamCreateWithPriority(
                    phStream: *mut CUstream, flags: c_uint, priority: c_int,
                );
                fn cuStreamDestroy_v2(hStream: CUstream);
                fn cuStreamSynchronize(hStream: CUstream);
                fn cuStreamWaitEvent(hStream: CUstream, hEvent: CUevent, Flags: c_uint);
                fn cuEventCreate(phEvent: *mut CUevent, Flags: c_uint);
                fn cuEventDestroy_v2(hEvent: CUevent);
                fn cuEventRecord(hEvent: CUevent, hStream: CUstream);
                fn cuEventSynchronize(hEvent: CUevent);
                fn cuEventElapsedTime(pMilliseconds: *mut f32, hStart: CUevent, hEnd: CUevent);
            }
            system_only {
                fn cuArray3DCreate_v2(
                    pHandle: *mut CUarray, pAllocateArray: *const CUDA_ARRAY3D_DESCRIPTOR,
                );
                fn cuArray3DGetDescriptor_v2(
                    pArrayDescriptor: *mut CUDA_ARRAY3D_DESCRIPTOR, hArray: CUarray,
                );
                fn cuArrayDestroy(hArray: CUarray);
                fn cuCtxCreate_v2(pctx: *mut CUcontext, flags: c_uint, dev: CUdevice);
                fn cuCtxDestroy_v2(ctx: CUcontext);
                fn cuCtxGetApiVersion(ctx: CUcontext, version: *mut c_uint);
                fn cuCtxGetCacheConfig(pconfig: *mut CUfunc_cache);
                fn cuCtxGetCurrent(pctx: *mut CUcontext);
                fn cuCtxGetDevice(device: *mut CUdevice);
                fn cuCtxGetFlags(flags: *mut c_uint);
                fn cuCtxGetLimit(pvalue: *mut usize, limit: CUlimit);
                fn cuCtxGetSharedMemConfig(pConfig: *mut CUsharedconfig);
                fn cuCtxGetStreamPriorityRange(
                    leastPriority: *mut c_int, greatestPriority: *mut c_int,
                );
                fn cuCtxPopCurrent_v2(pctx: *mut CUcontext);
                fn cuCtxPushCurrent_v2(ctx: CUcontext);
                fn cuCtxSetCacheConfig(config: CUfunc_cache);
                fn cuCtxSetLimit(limit: CUlimit, value: usize);
                fn cuCtxSetSharedMemConfig(config: CUsharedconfig);
                fn cuCtxSynchronize();
                fn cuDestroyExternalMemory(extMem: CUexternalMemory);
                fn cuDevicePrimaryCtxGetState(
                    dev: CUdevice, flags: *mut c_uint, active: *mut c_int,
                );
                fn cuDevicePrimaryCtxReset_v2(dev: CUdevice);
                fn cuDevicePrimaryCtxSetFlags_v2(dev: CUdevice, flags: c_uint);
                fn cuDeviceTotalMem_v2(bytes: *mut usize, dev: CUdevice);
                fn cuEventQuery(hEvent: CUevent);
                fn cuExternalMemoryGetMappedBuffer(
                    devPtr: *mut CUdeviceptr, extMem: CUexternalMemory,
                    bufferDesc: *const CUDA_EXTERNAL_MEMORY_BUFFER_DESC,
                );
                fn cuFuncGetAttribute(
                    pi: *mut c_int, attrib: CUfunction_attribute, hfunc: CUfunction,
                );
                fn cuFuncSetAttribute(
                    hfunc: CUfunction, attrib: CUfunction_attribute, value: c_int,
                );
                fn cuFuncSetCacheConfig(hfunc: CUfunction, config: CUfunc_cache);
                fn cuFuncSetSharedMemConfig(hfunc: CUfunction, config: CUsharedconfig);
                fn cuGraphAddKernelNode(
                    phGraphNode: *mut CUgraphNode, hGraph: CUgraph,
                    dependencies: *const CUgraphNode, numDependencies: usize,
                    nodeParams: *const CUDA_KERNEL_NODE_PARAMS,
                );
                fn cuGraphCreate(phGraph: *mut CUgraph, flags: c_uint);
                fn cuGraphDebugDotPrint(hGraph: CUgraph, path: *const c_char, flags: c_uint);
                fn cuGraphDestroy(hGraph: CUgraph);
                fn cuGraphGetEdges(
                    hGraph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode,
                    numEdges: *mut usize,
                );
                fn cuGraphGetNodes(hGraph: CUgraph, nodes: *mut CUgraphNode, numNodes: *mut usize);
                fn cuGraphKernelNodeGetParams(
                    hNode: CUgraphNode, nodeParams: *mut CUDA_KERNEL_NODE_PARAMS,
                );
                fn cuGraphNodeGetType(hNode: CUgraphNode, type_: *mut CUgraphNodeType);
                fn cuImportExternalMemory(
                    extMem_out: *mut CUexternalMemory,
                    memHandleDesc: *const CUDA_EXTERNAL_MEMORY_HANDLE_DESC,
                );
                fn cuLaunchHostFunc(hStream: CUstream, fn_: CUhostFn, userData: *mut c_void);
                fn cuLinkAddData_v2(
                    state: CUlinkState, type_: CUjitInputType, data: *mut c_void, size: usize,
                    name: *const c_char, numOptions: c_uint, options: *mut CUjit_option,
                    optionValues: *mut *mut c_void,
                );
                fn cuLinkComplete(
                    state: CUlinkState, cubinOut: *mut *mut c_void, sizeOut: *mut usize,
                );
                fn cuLinkCreate_v2(
                    numOptions: c_uint, options: *mut CUjit_option, optionValues: *mut *mut c_void,
                    stateOut: *mut CUlinkState,
                );
                fn cuLinkDestroy(state: CUlinkState);
                fn cuMemAdvise(
                    devPtr: CUdeviceptr, count: usize, advice: CUmem_advise, device: CUdevice,
                );
                fn cuMemAllocAsync(dptr: *mut CUdeviceptr, bytesize: usize, hStream: CUstream);
                fn cuMemAllocManaged(dptr: *mut CUdeviceptr, bytesize: usize, flags: c_uint);
                fn cuMemFreeAsync(dptr: CUdeviceptr, hStream: CUstream);
                fn cuMemHostAlloc(pp: *mut *mut c_void, bytesize: usize, Flags: c_uint);
                fn cuMemHostRegister_v2(p: *mut c_void, bytesize: usize, Flags: c_uint);
                fn cuMemHostUnregister(p: *mut c_void);
                fn cuMemPrefetchAsync(
                    devPtr: CUdeviceptr, count: usize, dstDevice: CUdevice, hStream: CUstream,
                );
                fn cuMemcpy2D_v2(pCopy: *const CUDA_MEMCPY2D);
                fn cuMemcpyAtoH_v2(
                    dstHost: *mut c_void, srcArray: CUarray, srcOffset: usize, ByteCount: usize,
                );
                fn cuMemcpyDtoD_v2(
                    dstDevice: CUdeviceptr, srcDevice: CUdeviceptr, ByteCount: usize,
                );
                fn cuMemcpyDtoH_v2(dstHost: *mut c_void, srcDevice: CUdeviceptr, ByteCount: usize);
                fn cuMemcpyHtoA_v2(
                    dstArray: CUarray, dstOffset: usize, srcHost: *const c_void, ByteCount: usize,
                );
                fn cuMemcpyHtoD_v2(
                    dstDevice: CUdeviceptr, srcHost: *const c_void, ByteCount: usize,
                );
                fn cuMemsetD16Async(
                    dstDevice: CUdeviceptr, us: c_ushort, N: usize, hStream: CUstream,
                );
                fn cuMemsetD16_v2(dstDevice: CUdeviceptr, us: c_ushort, N: usize);
                fn cuMemsetD32Async(
                    dstDevice: CUdeviceptr, ui: c_uint, N: usize, hStream: CUstream,
                );
                fn cuMemsetD32_v2(dstDevice: CUdeviceptr, ui: c_uint, N: usize);
                fn cuMemsetD8_v2(dstDevice: CUdeviceptr, uc: c_uchar, N: usize);
                fn cuModuleGetGlobal_v2(
                    dptr: *mut CUdeviceptr, bytes: *mut usize, hmod: CUmodule, name: *const c_char,
                );
                fn cuModuleLoad(module: *mut CUmodule, fname: *const c_char);
                fn cuModuleLoadData(module: *mut CUmodule, image: *const c_void);
                fn cuModuleUnload(hmod: CUmodule);
                fn cuOccupancyAvailableDynamicSMemPerBlock(
                    dynamicSmemSize: *mut usize, func: CUfunction, numBlocks: c_int,
                    blockSize: c_int,
                );
                fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
                    numBlocks: *mut c_int, func: CUfunction, blockSize: c_int,
                    dynamicSMemSize: usize,
                );
                fn cuOccupancyMaxPotentialBlockSize(
                    minGridSize: *mut c_int, blockSize: *mut c_int, func: CUfunction,
                    blockSizeToDynamicSMemSize: CUoccupancyB2DSize, dynamicSMemSize: usize,
                    blockSizeLimit: c_int,
                );
                fn cuStreamCreate(phStream: *mut CUstream, Flags: c_uint);
                fn cuStreamGetFlags(hStream: CUstream, flags: *mut c_uint);
                fn cuStreamGetPriority(hStream: CUstream, priority: *mut c_int);
                fn cuStreamQuery(hStream: CUstream);
                fn cuSurfObjectCreate(
                    pSurfObject: *mut CUsurfObject, pResDesc: *const CUDA_RESOURCE_DESC,
                );
                fn cuSurfObjectDestroy(surfObject: CUsurfObject);
                fn cuSurfObjectGetResourceDesc(
                    pResDesc: *mut CUDA_RESOURCE_DESC, surfObject: CUsurfObject,
                );
                fn cuTexObjectCreate(
                    pTexObject: *mut CUtexObject, pResDesc: *const CUDA_RESOURCE_DESC,
                    pTexDesc: *const CUDA_TEXTURE_DESC,
                    pResViewDesc: *const CUDA_RESOURCE_VIEW_DESC,
                );
                fn cuTexObjectDestroy(texObject: CUtexObject);
                fn cuTexObjectGetResourceDesc(
                    pResDesc: *mut CUDA_RESOURCE_DESC, texObject: CUtexObject,
                );
                fn cuTexObjectGetResourceViewDesc(
                    pResViewDesc: *mut CUDA_RESOURCE_VIEW_DESC, texObject: CUtexObject,
                );
            }
        }
    };
}
