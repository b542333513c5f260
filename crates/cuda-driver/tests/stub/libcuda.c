// A driver library for the tests: each function writes down its name and arguments, and returns
// what it was told to. The prototypes are those of cuda.h of CUDA 13.0; the crate's table is not
// read here, so that a wrong line in one of them shows.
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long CUdeviceptr, CUsurfObject, CUtexObject;
typedef int CUdevice, CUresult, CUdevice_attribute, CUfunc_cache, CUfunction_attribute,
    CUgraphNodeType, CUjitInputType, CUjit_option, CUlimit, CUmem_advise, CUsharedconfig;
typedef struct CUarray_st *CUarray;
typedef struct CUctx_st *CUcontext;
typedef struct CUevent_st *CUevent;
typedef struct CUextMemory_st *CUexternalMemory;
typedef struct CUfunc_st *CUfunction;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUlinkState_st *CUlinkState;
typedef struct CUmod_st *CUmodule;
typedef struct CUstream_st *CUstream;
typedef void (*CUhostFn)(void *);
typedef size_t (*CUoccupancyB2DSize)(int);
typedef struct array3d CUDA_ARRAY3D_DESCRIPTOR;
typedef struct memory_buffer CUDA_EXTERNAL_MEMORY_BUFFER_DESC;
typedef struct memory_handle CUDA_EXTERNAL_MEMORY_HANDLE_DESC;
typedef struct kernel_node CUDA_KERNEL_NODE_PARAMS_v1;
typedef struct memcpy2d CUDA_MEMCPY2D;
typedef struct resource CUDA_RESOURCE_DESC;
typedef struct resource_view CUDA_RESOURCE_VIEW_DESC;
typedef struct texture CUDA_TEXTURE_DESC;

static char last_call[1024];
static int next_result;

// What the tests ask and tell.
const char *stub_last_call(void) { return last_call; }
void stub_set_result(int code) { next_result = code; }

static CUresult result(void) {
    strcat(last_call, ")");
    return next_result;
}

static void write_signed(long long value) {
    sprintf(last_call + strlen(last_call), " %lld", value);
}

static void write_unsigned(unsigned long long value) {
    sprintf(last_call + strlen(last_call), " %llu", value);
}

static void write_pointer(uintptr_t value) {
    sprintf(last_call + strlen(last_call), " 0x%llx", (unsigned long long)value);
}

#define CALL() sprintf(last_call, "%s(", __func__)
// Integers are written as numbers, everything else is a pointer.
#define ARG(x)                                                                                     \
    _Generic((x), int: write_signed, unsigned char: write_unsigned, unsigned short: write_unsigned,\
        unsigned: write_unsigned, unsigned long: write_unsigned,                                   \
        unsigned long long: write_unsigned, default: write_pointer)((uintptr_t)(x))

// A number from the environment is written to `to`. Without it nothing is: the pointer may be made
// up.
static void write_setting(const char *variable, int *to) {
    if (getenv(variable)) *to = atoi(getenv(variable));
}

CUresult cuGetErrorName(CUresult error, const char **pStr)
{ CALL(); ARG(error); ARG(pStr); return result(); }
CUresult cuGetErrorString(CUresult error, const char **pStr)
{ CALL(); ARG(error); ARG(pStr); return result(); }
CUresult cuInit(unsigned int Flags) {
    CALL(); ARG(Flags);
    int code = result();
    write_setting("STUB_INIT_RESULT", &code);
    return code;
}
CUresult cuDriverGetVersion(int *driverVersion) {
    write_setting("STUB_VERSION", driverVersion);
    CALL(); ARG(driverVersion); return result();
}
CUresult cuDeviceGetCount(int *count) {
    write_setting("STUB_DEVICES", count);
    CALL(); ARG(count); return result();
}
CUresult cuDeviceGet(CUdevice *device, int ordinal)
{ CALL(); ARG(device); ARG(ordinal); return result(); }
CUresult cuDeviceGetName(char *name, int len, CUdevice dev)
{ CALL(); ARG(name); ARG(len); ARG(dev); return result(); }
CUresult cuDeviceGetAttribute(int *pi, CUdevice_attribute attrib, CUdevice dev)
{ CALL(); ARG(pi); ARG(attrib); ARG(dev); return result(); }
CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice dev)
{ CALL(); ARG(bytes); ARG(dev); return result(); }
CUresult cuDevicePrimaryCtxRetain(CUcontext *pctx, CUdevice dev)
{ CALL(); ARG(pctx); ARG(dev); return result(); }
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice dev) { CALL(); ARG(dev); return result(); }
CUresult cuDevicePrimaryCtxReset_v2(CUdevice dev) { CALL(); ARG(dev); return result(); }
CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice dev, unsigned int flags)
{ CALL(); ARG(dev); ARG(flags); return result(); }
CUresult cuDevicePrimaryCtxGetState(CUdevice dev, unsigned int *flags, int *active)
{ CALL(); ARG(dev); ARG(flags); ARG(active); return result(); }
CUresult cuCtxSetCurrent(CUcontext ctx) { CALL(); ARG(ctx); return result(); }
CUresult cuCtxGetCurrent(CUcontext *pctx) { CALL(); ARG(pctx); return result(); }
CUresult cuCtxPushCurrent_v2(CUcontext ctx) { CALL(); ARG(ctx); return result(); }
CUresult cuCtxPopCurrent_v2(CUcontext *pctx) { CALL(); ARG(pctx); return result(); }
CUresult cuCtxGetDevice(CUdevice *device) { CALL(); ARG(device); return result(); }
CUresult cuCtxGetApiVersion(CUcontext ctx, unsigned int *version)
{ CALL(); ARG(ctx); ARG(version); return result(); }
CUresult cuCtxGetFlags(unsigned int *flags) { CALL(); ARG(flags); return result(); }
CUresult cuCtxGetStreamPriorityRange(int *leastPriority, int *greatestPriority)
{ CALL(); ARG(leastPriority); ARG(greatestPriority); return result(); }
CUresult cuCtxSynchronize(void) { CALL(); return result(); }
CUresult cuModuleLoad(CUmodule *module, const char *fname)
{ CALL(); ARG(module); ARG(fname); return result(); }
CUresult cuModuleLoadData(CUmodule *module, const void *image)
{ CALL(); ARG(module); ARG(image); return result(); }
CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int numOptions,
    CUjit_option *options, void **optionValues)
{ CALL(); ARG(module); ARG(image); ARG(numOptions); ARG(options); ARG(optionValues); return
    result(); }
CUresult cuModuleUnload(CUmodule hmod) { CALL(); ARG(hmod); return result(); }
CUresult cuModuleGetFunction(CUfunction *hfunc, CUmodule hmod, const char *name)
{ CALL(); ARG(hfunc); ARG(hmod); ARG(name); return result(); }
CUresult cuModuleGetGlobal_v2(CUdeviceptr *dptr, size_t *bytes, CUmodule hmod, const char *name)
{ CALL(); ARG(dptr); ARG(bytes); ARG(hmod); ARG(name); return result(); }
CUresult cuFuncGetAttribute(int *pi, CUfunction_attribute attrib, CUfunction hfunc)
{ CALL(); ARG(pi); ARG(attrib); ARG(hfunc); return result(); }
CUresult cuFuncSetAttribute(CUfunction hfunc, CUfunction_attribute attrib, int value)
{ CALL(); ARG(hfunc); ARG(attrib); ARG(value); return result(); }
CUresult cuFuncSetCacheConfig(CUfunction hfunc, CUfunc_cache config)
{ CALL(); ARG(hfunc); ARG(config); return result(); }
CUresult cuFuncSetSharedMemConfig(CUfunction hfunc, CUsharedconfig config)
{ CALL(); ARG(hfunc); ARG(config); return result(); }
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *numBlocks, CUfunction func, int blockSize,
    size_t dynamicSMemSize)
{ CALL(); ARG(numBlocks); ARG(func); ARG(blockSize); ARG(dynamicSMemSize); return result(); }
CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t *dynamicSmemSize, CUfunction func,
    int numBlocks, int blockSize)
{ CALL(); ARG(dynamicSmemSize); ARG(func); ARG(numBlocks); ARG(blockSize); return result(); }
CUresult cuOccupancyMaxPotentialBlockSize(int *minGridSize, int *blockSize, CUfunction func,
    CUoccupancyB2DSize blockSizeToDynamicSMemSize, size_t dynamicSMemSize, int blockSizeLimit)
{ CALL(); ARG(minGridSize); ARG(blockSize); ARG(func); ARG(blockSizeToDynamicSMemSize);
    ARG(dynamicSMemSize); ARG(blockSizeLimit); return result(); }
CUresult cuLaunchKernel(CUfunction f, unsigned int gridDimX, unsigned int gridDimY,
    unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ,
    unsigned int sharedMemBytes, CUstream hStream, void **kernelParams, void **extra)
{ CALL(); ARG(f); ARG(gridDimX); ARG(gridDimY); ARG(gridDimZ); ARG(blockDimX); ARG(blockDimY);
    ARG(blockDimZ); ARG(sharedMemBytes); ARG(hStream); ARG(kernelParams); ARG(extra); return
    result(); }
CUresult cuLaunchHostFunc(CUstream hStream, CUhostFn fn, void *userData)
{ CALL(); ARG(hStream); ARG(fn); ARG(userData); return result(); }
#ifndef LACKS_MEMORY_INFO
CUresult cuMemGetInfo_v2(size_t *free, size_t *total)
{ CALL(); ARG(free); ARG(total); return result(); }
#endif
CUresult cuMemAlloc_v2(CUdeviceptr *dptr, size_t bytesize)
{ CALL(); ARG(dptr); ARG(bytesize); return result(); }
CUresult cuMemFree_v2(CUdeviceptr dptr) { CALL(); ARG(dptr); return result(); }
CUresult cuMemAllocAsync(CUdeviceptr *dptr, size_t bytesize, CUstream hStream)
{ CALL(); ARG(dptr); ARG(bytesize); ARG(hStream); return result(); }
CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream hStream)
{ CALL(); ARG(dptr); ARG(hStream); return result(); }
CUresult cuMemAllocHost_v2(void **pp, size_t bytesize)
{ CALL(); ARG(pp); ARG(bytesize); return result(); }
CUresult cuMemHostAlloc(void **pp, size_t bytesize, unsigned int Flags)
{ CALL(); ARG(pp); ARG(bytesize); ARG(Flags); return result(); }
CUresult cuMemFreeHost(void *p) { CALL(); ARG(p); return result(); }
CUresult cuMemHostRegister_v2(void *p, size_t bytesize, unsigned int Flags)
{ CALL(); ARG(p); ARG(bytesize); ARG(Flags); return result(); }
CUresult cuMemHostUnregister(void *p) { CALL(); ARG(p); return result(); }
CUresult cuMemcpyHtoD_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount)
{ CALL(); ARG(dstDevice); ARG(srcHost); ARG(ByteCount); return result(); }
CUresult cuMemcpyDtoH_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount)
{ CALL(); ARG(dstHost); ARG(srcDevice); ARG(ByteCount); return result(); }
CUresult cuMemcpyDtoD_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount)
{ CALL(); ARG(dstDevice); ARG(srcDevice); ARG(ByteCount); return result(); }
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount,
    CUstream hStream)
{ CALL(); ARG(dstDevice); ARG(srcHost); ARG(ByteCount); ARG(hStream); return result(); }
CUresult cuMemcpyDtoHAsync_v2(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount,
    CUstream hStream)
{ CALL(); ARG(dstHost); ARG(srcDevice); ARG(ByteCount); ARG(hStream); return result(); }
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount,
    CUstream hStream)
{ CALL(); ARG(dstDevice); ARG(srcDevice); ARG(ByteCount); ARG(hStream); return result(); }
CUresult cuMemsetD8_v2(CUdeviceptr dstDevice, unsigned char uc, size_t N)
{ CALL(); ARG(dstDevice); ARG(uc); ARG(N); return result(); }
CUresult cuMemsetD16_v2(CUdeviceptr dstDevice, unsigned short us, size_t N)
{ CALL(); ARG(dstDevice); ARG(us); ARG(N); return result(); }
CUresult cuMemsetD32_v2(CUdeviceptr dstDevice, unsigned int ui, size_t N)
{ CALL(); ARG(dstDevice); ARG(ui); ARG(N); return result(); }
CUresult cuMemsetD8Async(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream)
{ CALL(); ARG(dstDevice); ARG(uc); ARG(N); ARG(hStream); return result(); }
CUresult cuMemsetD16Async(CUdeviceptr dstDevice, unsigned short us, size_t N, CUstream hStream)
{ CALL(); ARG(dstDevice); ARG(us); ARG(N); ARG(hStream); return result(); }
CUresult cuMemsetD32Async(CUdeviceptr dstDevice, unsigned int ui, size_t N, CUstream hStream)
{ CALL(); ARG(dstDevice); ARG(ui); ARG(N); ARG(hStream); return result(); }
CUresult cuStreamCreate(CUstream *phStream, unsigned int Flags)
{ CALL(); ARG(phStream); ARG(Flags); return result(); }
CUresult cuStreamCreateWithPriority(CUstream *phStream, unsigned int flags, int priority)
{ CALL(); ARG(phStream); ARG(flags); ARG(priority); return result(); }
CUresult cuStreamDestroy_v2(CUstream hStream) { CALL(); ARG(hStream); return result(); }
CUresult cuStreamGetFlags(CUstream hStream, unsigned int *flags)
{ CALL(); ARG(hStream); ARG(flags); return result(); }
CUresult cuStreamGetPriority(CUstream hStream, int *priority)
{ CALL(); ARG(hStream); ARG(priority); return result(); }
CUresult cuStreamQuery(CUstream hStream) { CALL(); ARG(hStream); return result(); }
CUresult cuStreamSynchronize(CUstream hStream) { CALL(); ARG(hStream); return result(); }
CUresult cuStreamWaitEvent(CUstream hStream, CUevent hEvent, unsigned int Flags)
{ CALL(); ARG(hStream); ARG(hEvent); ARG(Flags); return result(); }
CUresult cuEventCreate(CUevent *phEvent, unsigned int Flags)
{ CALL(); ARG(phEvent); ARG(Flags); return result(); }
CUresult cuEventDestroy_v2(CUevent hEvent) { CALL(); ARG(hEvent); return result(); }
CUresult cuEventRecord(CUevent hEvent, CUstream hStream)
{ CALL(); ARG(hEvent); ARG(hStream); return result(); }
CUresult cuEventQuery(CUevent hEvent) { CALL(); ARG(hEvent); return result(); }
CUresult cuEventSynchronize(CUevent hEvent) { CALL(); ARG(hEvent); return result(); }
CUresult cuEventElapsedTime(float *pMilliseconds, CUevent hStart, CUevent hEnd)
{ CALL(); ARG(pMilliseconds); ARG(hStart); ARG(hEnd); return result(); }
CUresult cuArray3DCreate_v2(CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *pAllocateArray)
{ CALL(); ARG(pHandle); ARG(pAllocateArray); return result(); }
CUresult cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *pArrayDescriptor, CUarray hArray)
{ CALL(); ARG(pArrayDescriptor); ARG(hArray); return result(); }
CUresult cuArrayDestroy(CUarray hArray) { CALL(); ARG(hArray); return result(); }
CUresult cuCtxCreate_v2(CUcontext *pctx, unsigned int flags, CUdevice dev)
{ CALL(); ARG(pctx); ARG(flags); ARG(dev); return result(); }
CUresult cuCtxDestroy_v2(CUcontext ctx) { CALL(); ARG(ctx); return result(); }
CUresult cuCtxGetCacheConfig(CUfunc_cache *pconfig) { CALL(); ARG(pconfig); return result(); }
CUresult cuCtxGetLimit(size_t *pvalue, CUlimit limit)
{ CALL(); ARG(pvalue); ARG(limit); return result(); }
CUresult cuCtxGetSharedMemConfig(CUsharedconfig *pConfig) { CALL(); ARG(pConfig); return result(); }
CUresult cuCtxSetCacheConfig(CUfunc_cache config) { CALL(); ARG(config); return result(); }
CUresult cuCtxSetLimit(CUlimit limit, size_t value)
{ CALL(); ARG(limit); ARG(value); return result(); }
CUresult cuCtxSetSharedMemConfig(CUsharedconfig config) { CALL(); ARG(config); return result(); }
CUresult cuDestroyExternalMemory(CUexternalMemory extMem) { CALL(); ARG(extMem); return result(); }
CUresult cuExternalMemoryGetMappedBuffer(CUdeviceptr *devPtr, CUexternalMemory extMem,
    const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *bufferDesc)
{ CALL(); ARG(devPtr); ARG(extMem); ARG(bufferDesc); return result(); }
CUresult cuGraphAddKernelNode(CUgraphNode *phGraphNode, CUgraph hGraph,
    const CUgraphNode *dependencies, size_t numDependencies,
    const CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{ CALL(); ARG(phGraphNode); ARG(hGraph); ARG(dependencies); ARG(numDependencies); ARG(nodeParams);
    return result(); }
CUresult cuGraphCreate(CUgraph *phGraph, unsigned int flags)
{ CALL(); ARG(phGraph); ARG(flags); return result(); }
CUresult cuGraphDebugDotPrint(CUgraph hGraph, const char *path, unsigned int flags)
{ CALL(); ARG(hGraph); ARG(path); ARG(flags); return result(); }
CUresult cuGraphDestroy(CUgraph hGraph) { CALL(); ARG(hGraph); return result(); }
CUresult cuGraphGetEdges(CUgraph hGraph, CUgraphNode *from, CUgraphNode *to, size_t *numEdges)
{ CALL(); ARG(hGraph); ARG(from); ARG(to); ARG(numEdges); return result(); }
CUresult cuGraphGetNodes(CUgraph hGraph, CUgraphNode *nodes, size_t *numNodes)
{ CALL(); ARG(hGraph); ARG(nodes); ARG(numNodes); return result(); }
CUresult cuGraphKernelNodeGetParams(CUgraphNode hNode, CUDA_KERNEL_NODE_PARAMS_v1 *nodeParams)
{ CALL(); ARG(hNode); ARG(nodeParams); return result(); }
CUresult cuGraphNodeGetType(CUgraphNode hNode, CUgraphNodeType *type)
{ CALL(); ARG(hNode); ARG(type); return result(); }
CUresult cuImportExternalMemory(CUexternalMemory *extMem_out,
    const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *memHandleDesc)
{ CALL(); ARG(extMem_out); ARG(memHandleDesc); return result(); }
CUresult cuLinkAddData_v2(CUlinkState state, CUjitInputType type, void *data, size_t size,
    const char *name, unsigned int numOptions, CUjit_option *options, void **optionValues)
{ CALL(); ARG(state); ARG(type); ARG(data); ARG(size); ARG(name); ARG(numOptions); ARG(options);
    ARG(optionValues); return result(); }
CUresult cuLinkComplete(CUlinkState state, void **cubinOut, size_t *sizeOut)
{ CALL(); ARG(state); ARG(cubinOut); ARG(sizeOut); return result(); }
CUresult cuLinkCreate_v2(unsigned int numOptions, CUjit_option *options, void **optionValues,
    CUlinkState *stateOut)
{ CALL(); ARG(numOptions); ARG(options); ARG(optionValues); ARG(stateOut); return result(); }
CUresult cuLinkDestroy(CUlinkState state) { CALL(); ARG(state); return result(); }
CUresult cuMemAdvise(CUdeviceptr devPtr, size_t count, CUmem_advise advice, CUdevice device)
{ CALL(); ARG(devPtr); ARG(count); ARG(advice); ARG(device); return result(); }
CUresult cuMemAllocManaged(CUdeviceptr *dptr, size_t bytesize, unsigned int flags)
{ CALL(); ARG(dptr); ARG(bytesize); ARG(flags); return result(); }
CUresult cuMemPrefetchAsync(CUdeviceptr devPtr, size_t count, CUdevice dstDevice, CUstream hStream)
{ CALL(); ARG(devPtr); ARG(count); ARG(dstDevice); ARG(hStream); return result(); }
CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D *pCopy) { CALL(); ARG(pCopy); return result(); }
CUresult cuMemcpyAtoH_v2(void *dstHost, CUarray srcArray, size_t srcOffset, size_t ByteCount)
{ CALL(); ARG(dstHost); ARG(srcArray); ARG(srcOffset); ARG(ByteCount); return result(); }
CUresult cuMemcpyHtoA_v2(CUarray dstArray, size_t dstOffset, const void *srcHost, size_t ByteCount)
{ CALL(); ARG(dstArray); ARG(dstOffset); ARG(srcHost); ARG(ByteCount); return result(); }
CUresult cuSurfObjectCreate(CUsurfObject *pSurfObject, const CUDA_RESOURCE_DESC *pResDesc)
{ CALL(); ARG(pSurfObject); ARG(pResDesc); return result(); }
CUresult cuSurfObjectDestroy(CUsurfObject surfObject) { CALL(); ARG(surfObject); return result(); }
CUresult cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUsurfObject surfObject)
{ CALL(); ARG(pResDesc); ARG(surfObject); return result(); }
CUresult cuTexObjectCreate(CUtexObject *pTexObject, const CUDA_RESOURCE_DESC *pResDesc,
    const CUDA_TEXTURE_DESC *pTexDesc, const CUDA_RESOURCE_VIEW_DESC *pResViewDesc)
{ CALL(); ARG(pTexObject); ARG(pResDesc); ARG(pTexDesc); ARG(pResViewDesc); return result(); }
CUresult cuTexObjectDestroy(CUtexObject texObject) { CALL(); ARG(texObject); return result(); }
CUresult cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC *pResDesc, CUtexObject texObject)
{ CALL(); ARG(pResDesc); ARG(texObject); return result(); }
CUresult cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC *pResViewDesc,
    CUtexObject texObject)
{ CALL(); ARG(pResViewDesc); ARG(texObject); return result(); }

// A call between functions of the library. It must not come out at the program's function of the
// same name.
CUresult stub_calls_itself(void) { return cuCtxSynchronize(); }
