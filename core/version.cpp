#include "pare/version.h"

#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace pare {
namespace {

// The processor's own account. What the system and the libraries make of it is in each report's
// "kernel".
std::string instruction_sets() {
#if defined(__x86_64__)
  std::string names;
  const auto append = [&](bool present, std::string_view name) {
    if (!present) return;
    if (!names.empty()) names += ' ';
    names += name;
  };
  append(__builtin_cpu_supports("avx2") != 0, "avx2");
  append(__builtin_cpu_supports("avx512f") != 0, "avx512f");
  append(__builtin_cpu_supports("avx512bw") != 0, "avx512bw");
  append(__builtin_cpu_supports("avx512vnni") != 0, "avx512_vnni");
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  // Intel SDM, CPUID leaf 7: subleaf 1 EAX bit 5 AVX512_BF16; subleaf 0 EDX bits 22, 24 and 25
  // AMX-BF16, AMX-TILE and AMX-INT8.
  if (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0) {
    append((eax >> 5U & 1U) != 0, "avx512_bf16");
  }
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx >> 24U & 1U) != 0) {
    append((edx >> 22U & 1U) != 0, "amx_bf16");
    append((edx >> 25U & 1U) != 0, "amx_int8");
  }
  return names.empty() ? "baseline" : names;
#else
  return "baseline";
#endif
}

}  // namespace

std::string version() { return PARE_VERSION_STRING; }

std::string version_details() {
  std::string text = "pare " + version() + "\n";
#if defined(__clang__)
  text += "compiler: clang " __clang_version__ "\n";
#else
  text += "compiler: g++ " __VERSION__ "\n";
#endif
  text += "built with: " PARE_LIBRARY_VERSIONS "\n";
  text += "processor: " + instruction_sets() + "\n";
  return text;
}

}  // namespace pare
