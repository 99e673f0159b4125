# Debian packages, by CPack: pare has the programs and the library, pare-dev what building against
# it takes. `make deb` writes both; docs/library.md says more.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME pare)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_VENDOR "pare developers")
set(CPACK_PACKAGE_CONTACT "pare developers <pare@localhost>")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
    OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_COMPONENTS_ALL runtime development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME pare)
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION
"Quantizes and prunes the weights of trained language models, in formats from
FP8 to INT4 and in 2:4 sparsity, and measures what that cost: perplexity,
divergence and questions, with intervals, and gates for build pipelines.

This package has the programs quantize and accuracy-eval and their library.")
# What the programs link is in the archive's packages, but for the library beside them.
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR})
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY "=")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME pare-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_COMPONENT_DEVELOPMENT_DEPENDS runtime)
set(CPACK_DEBIAN_ENABLE_COMPONENT_DEPENDS ON)
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION
"Development files: headers of the C++ and C interfaces, a CMake package with
functions that quantize and check accuracy as steps of a build, and examples.")

# Each package says under which licence it is.
foreach(package pare pare-dev)
  set(component runtime)
  if(package STREQUAL pare-dev)
    set(component development)
  endif()
  install(FILES ${PROJECT_SOURCE_DIR}/cmake/debian-copyright RENAME copyright
          DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package} COMPONENT ${component})
endforeach()
include(CPack)
