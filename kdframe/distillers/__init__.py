import kdframe.distillers.at  # 2017, where the networks look
import kdframe.distillers.cc  # 2019, kernels of the images
import kdframe.distillers.crd  # 2020, which image it is, against a bank of all
import kdframe.distillers.cross_entropy  # the labels
import kdframe.distillers.dkd  # 2022, target class and the others apart
import kdframe.distillers.feature  # several stages' maps
import kdframe.distillers.fitnet  # 2015, one stage's maps
import kdframe.distillers.ickd  # 2021, which channels are alike
import kdframe.distillers.irg  # 2019, a graph of the images
import kdframe.distillers.kd  # 2015, soft labels
import kdframe.distillers.pkt  # 2018, who is whose neighbour
import kdframe.distillers.rkd  # 2019, distances and angles
import kdframe.distillers.sp  # 2019, which images are alike
