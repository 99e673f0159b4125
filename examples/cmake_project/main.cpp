// Lists the tensors of a checkpoint: how each is stored, and the range of its values.
//
//   tensors model.h5
#include <pare/checkpoint.h>
#include <pare/error.h>

#include <algorithm>
#include <cstdio>

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FILE.h5\n", argv[0]);
    return 2;
  }
  try {
    const pare::Checkpoint checkpoint(argv[1]);
    for (const std::string& name : checkpoint.stored_order()) {
      const pare::TensorInfo info = checkpoint.info(name);
      const std::vector<float> values = checkpoint.values(name);
      const auto [least, most] = std::minmax_element(values.begin(), values.end());
      std::printf("%s %s %.1f bits %g to %g\n", name.c_str(),
                  info.scheme ? info.scheme->scheme.c_str() : info.dtype.c_str(),
                  8.0 * static_cast<double>(info.stored_bytes) / static_cast<double>(values.size()),
                  static_cast<double>(*least), static_cast<double>(*most));
    }
  } catch (const pare::Error& error) {
    std::fprintf(stderr, "%s: %s\n", pare::error_code_name(error.code()), error.what());
    return static_cast<int>(error.code());
  }
  return 0;
}
