// Uses every public header, and calls what can be called without a model.
#include <pare/error.h>
#include <pare/evaluate.h>
#include <pare/progress.h>
#include <pare/quantize.h>
#include <pare/version.h>

#include <cstdio>

int main() {
  if (pare::qformats().empty() || pare::version() != PARE_EXPECTED_VERSION) return 1;
  pare::QuantizeOptions options;
  options.model = "/no/such/model";
  options.output = "out.h5";
  try {
    pare::quantize(options, {});
  } catch (const pare::Error& error) {
    // The exception has to keep its type across the library's boundary.
    std::printf("%s: %s\n", pare::error_code_name(error.code()), error.what());
    return error.code() == pare::ErrorCode::kInputMissing ? 0 : 2;
  }
  return 3;
}
