# tessera_library(NAME FOLDER sources... [DEPENDS libraries...] [PRIVATE_DEPENDS libraries...])
#
# One static library for each folder of the house. A library's headers are reachable only through its own include root,
# which holds a single link named after the folder, so `#include "ops/ops.h"` compiles only where tessera_ops is linked:
# that is how the order of the libraries is enforced.
function(tessera_library name folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  get_filename_component(leaf ${folder} NAME)
  set(root ${PROJECT_BINARY_DIR}/include/${name})
  file(MAKE_DIRECTORY ${root})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${root}/${leaf} SYMBOLIC)
  add_library(tessera_${name} STATIC ${ARG_SOURCES})
  target_include_directories(tessera_${name} PUBLIC ${root})
  target_link_libraries(tessera_${name} PUBLIC ${ARG_DEPENDS} PRIVATE tessera_flags ${ARG_PRIVATE_DEPENDS})
endfunction()

# tessera_test(NAME [THREADS] sources... DEPENDS libraries...): one GoogleTest program, run by ctest, part of the target `test_programs`.
# THREADS: its tests run some, so that it is also part of `threaded_programs`, and ctest's label "threads" has it.
function(tessera_test name)
  cmake_parse_arguments(ARG "THREADS" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)  # thinned.h
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} tessera_flags nlohmann_json::nlohmann_json GTest::gtest_main GTest::gmock)
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)  # -O3 takes longer to compile than it saves
  add_test(NAME ${name} COMMAND ${name})
  if(NOT TARGET test_programs)
    add_custom_target(test_programs)
    add_custom_target(threaded_programs)
  endif()
  add_dependencies(test_programs ${name})
  if(ARG_THREADS)
    set_tests_properties(${name} PROPERTIES LABELS threads)
    add_dependencies(threaded_programs ${name})
  endif()
endfunction()

# tessera_fuzzer(NAME sources... DEPENDS libraries...): one libFuzzer program fuzz_NAME, part of the target `fuzzers`.
function(tessera_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(fuzz_${name} ${ARG_SOURCES})
  target_link_libraries(fuzz_${name} PRIVATE ${ARG_DEPENDS} tessera_flags)
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  if(NOT TARGET fuzzers)
    add_custom_target(fuzzers)
  endif()
  add_dependencies(fuzzers fuzz_${name})
endfunction()
