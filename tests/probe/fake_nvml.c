/* A libnvidia-ml.so.1 that behaves, or misbehaves, as FAKE_NVML says: space-separated words, each WORD or WORD:GPU.
 * Signatures, structures and error numbers are those of the public nvml.h (CUDA 12). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9,
       GPU_IS_LOST = 15, LIB_RM_VERSION_MISMATCH = 18 };

typedef struct device { int index; int instance; } device_t;
typedef device_t *nvmlDevice_t;
typedef struct { char busIdLegacy[16]; unsigned domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32]; } pci_t;
typedef struct { unsigned long long total, free, used; } memory_t;

static device_t gpus[16], instances[16][8];

static int asked(const char *word, int index) {
  char wanted[64];
  const char *said = getenv("FAKE_NVML");
  if (!said) return 0;
  snprintf(wanted, sizeof wanted, index < 0 ? "%s" : "%s:%d", word, index);
  size_t length = strlen(wanted);
  for (const char *at = said; (at = strstr(at, wanted)); at += length)
    if ((at == said || at[-1] == ' ') && (at[length] == 0 || at[length] == ' ')) return 1;
  return 0;
}

static void scribble(void) { /* into whatever is open, without a newline: another library's debugging */
  for (int fd = 3; fd < 64; fd++)
    if (write(fd, "{\"kind\": \"end\"", 14) < 0) continue;
}

static void misbehave(int index) {
  if (asked("scribble", index)) scribble();
  if (asked("slow", index)) usleep(300000);
  if (asked("deaf", index)) { /* as one asleep in the driver: no TERM, and a child that holds every pipe */
    signal(SIGTERM, SIG_IGN);
    if (fork() >= 0) for (;;) pause();
  }
  if (asked("crash", index)) *(volatile int *)0 = 1;
  if (asked("hang", index)) {
    prctl(PR_SET_NAME, "hanging"); /* so that a test sees that we got here */
    for (;;) pause();
  }
  if (asked("fork", index) && fork() == 0) for (;;) pause();
  if (asked("exit", index)) _exit(7);
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  if (asked("print", -1)) {
    printf("{\"kind\": \"device\", \"index\": 99}\nnvml: hello\n");
    fflush(stdout);
    fprintf(stderr, "garbage \x01\xff\n");
  }
  if (asked("hang-init", -1)) for (;;) pause();
  if (asked("crash-init", -1)) abort();
  if (asked("mismatch", -1)) return LIB_RM_VERSION_MISMATCH;
  if (asked("no-driver", -1)) return DRIVER_NOT_LOADED;
  return SUCCESS;
}

const char *nvmlErrorString(int code) { return code == GPU_IS_LOST ? "GPU is lost" : "some error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) { snprintf(text, length, "550.54.15"); return SUCCESS; }

int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12040; return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned *count) {
  *count = asked("count-huge", -1) ? 4000000000u : asked("count-0", -1) ? 0 : asked("count-3", -1) ? 3
           : asked("count-9", -1) ? 9 : 4;
  return asked("count-refused", -1) ? NO_PERMISSION : SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *handle) {
  misbehave((int)index);
  if (index > 3) return INVALID_ARGUMENT;
  if (asked("lost", (int)index)) return GPU_IS_LOST;
  if (asked("denied", (int)index)) return NO_PERMISSION;
  gpus[index].index = (int)index;
  gpus[index].instance = -1;
  *handle = &gpus[index];
  return SUCCESS;
}

int nvmlDeviceGetPciInfo_v3(nvmlDevice_t handle, pci_t *info) {
  memset(info, 0, sizeof *info);
  int shown = asked("twin", handle->index) ? handle->index - 1 : handle->index;
  snprintf(info->busId, sizeof info->busId, "00000000:%02X:00.0", 0xC1 + shown);
  if (asked("stray", handle->index)) snprintf(info->busId, sizeof info->busId, "00000000:FE:00.0");
  if (asked("nonsense", handle->index)) snprintf(info->busId, sizeof info->busId, "no address");
  return SUCCESS;
}

int nvmlDeviceGetName(nvmlDevice_t handle, char *text, unsigned length) {
  const char *whole = asked("fast", handle->index) ? "NVIDIA H100" : "NVIDIA A100-SXM4-40GB";
  if (asked("garbage", handle->index)) whole = "\xff\xfe\x01";
  snprintf(text, length, handle->instance < 0 ? whole : "NVIDIA A100-SXM4-40GB MIG 1g.5gb");
  return SUCCESS;
}

int nvmlDeviceGetUUID(nvmlDevice_t handle, char *text, unsigned length) {
  int shown = asked("twin", handle->index) ? handle->index - 1 : handle->index;
  if (handle->instance < 0) snprintf(text, length, "GPU-0000000%d", shown);
  else snprintf(text, length, "MIG-0000000%d-%d", handle->index, handle->instance);
  return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(nvmlDevice_t handle, memory_t *memory) {
  memory->total = (handle->instance < 0 ? 40960ULL : 4864ULL) << 20;
  memory->free = memory->total;
  memory->used = 0;
  return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(nvmlDevice_t handle, int type, int counter, unsigned long long *count) {
  if (asked("lost-late", handle->index)) return GPU_IS_LOST;
  if (asked("hang-late", handle->index)) for (;;) pause();
  if (asked("crash-late", handle->index)) raise(SIGBUS);
  *count = asked("ecc", handle->index) && type == 1 && counter == 0 ? 3 : 0;
  return asked("no-ecc", handle->index) ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetRemappedRows(nvmlDevice_t handle, unsigned *ok, unsigned *bad, unsigned *pending, unsigned *failed) {
  *ok = *bad = 0;
  *pending = asked("remap-pending", handle->index);
  *failed = asked("remap-failed", handle->index);
  return SUCCESS;
}

int nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t handle, int *pending) {
  *pending = asked("retired", handle->index);
  return asked("retired", handle->index) ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetComputeMode(nvmlDevice_t handle, int *mode) {
  *mode = asked("prohibited", handle->index) ? 2 : asked("exclusive", handle->index) ? 3 : asked("odd-mode", handle->index) ? 77 : 0;
  return SUCCESS;
}

int nvmlDeviceGetNumGpuCores(nvmlDevice_t handle, unsigned *cores) {
  *cores = asked("fast", handle->index) ? 16896 : 6912;
  return SUCCESS;
}

int nvmlDeviceGetMaxClockInfo(nvmlDevice_t handle, int type, unsigned *clock) {
  *clock = 1410;
  return type == 1 ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetMigMode(nvmlDevice_t handle, unsigned *current, unsigned *next) {
  *current = *next = asked("mig", handle->index) || asked("mig-empty", handle->index);
  return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t handle, unsigned *count) { (void)handle; *count = 7; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t handle, unsigned index, nvmlDevice_t *instance) {
  if (index > 6) return INVALID_ARGUMENT;
  if (asked("mig-empty", handle->index) || index % 3) return NOT_FOUND;
  instances[handle->index][index].index = handle->index;
  instances[handle->index][index].instance = (int)index;
  *instance = &instances[handle->index][index];
  return SUCCESS;
}
