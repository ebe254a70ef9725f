#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings.h"
#include "cli/cli_main.h"

namespace tessera::python {
namespace {

std::vector<std::string> texts_of(const std::vector<nb::bytes>& arguments) {
  std::vector<std::string> texts;
  for (const nb::bytes& argument : arguments) texts.emplace_back(argument.c_str(), argument.size());
  return texts;
}

int run_command(const std::vector<nb::bytes>& arguments, const std::vector<nb::bytes>& program) {
  std::vector<std::string> texts = texts_of(arguments);
  const std::vector<std::string> words = texts_of(program);
  std::vector<char*> argv;
  for (std::string& text : texts) argv.push_back(text.data());
  argv.push_back(nullptr);
  const nb::gil_scoped_release release;
  return cli_main(static_cast<int>(texts.size()), argv.data(), words);
}

}  // namespace

void report(const nb::object& progress, int64_t done, int64_t total) {
  const nb::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
  if (!progress.is_none()) progress(done, total);
}

}  // namespace tessera::python

NB_MODULE(_core, m) {
  using namespace tessera::python;
  nb::set_leak_warnings(false);  // whoever holds a model until the interpreter ends has done nothing wrong
  bind_errors(m);
  bind_loading(m);
  bind_evaluation(m);
  bind_generation(m);
  bind_text(m);
  bind_card(m);
  m.attr("DEVICE_LOST") = tessera::kDeviceLost;
  m.def("cli_main", run_command, nb::arg("arguments"), nb::arg("program") = std::vector<nb::bytes>(),
        "The tessera command: its exit code. After DEVICE_LOST the process is to be left by os._exit: TTNN's own end would wait for the "
        "card. The first argument is the program's name; each is a file system's bytes (os.fsencode)."
        " program: the words that start this command again.");
}
