{
  isoImage.makeEfiBootable = true;
}
