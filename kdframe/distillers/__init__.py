import kdframe.distillers.at  # 2017, where the networks look
import kdframe.distillers.catkd  # 2023, where the networks see each class
import kdframe.distillers.cross_entropy  # the labels
import kdframe.distillers.cwd  # 2021, where each channel is active
import kdframe.distillers.dkd  # 2022, target class and the others apart
import kdframe.distillers.feature  # several stages' maps
import kdframe.distillers.fitnet  # 2015, one stage's maps
import kdframe.distillers.fsp  # 2017, how a stage follows from the one before
import kdframe.distillers.kd  # 2015, soft labels
import kdframe.distillers.mgd  # 2022, the maps from masked ones
import kdframe.distillers.nst  # 2017, the patterns that channels respond to
import kdframe.distillers.pkd  # 2022, the maps up to scale and shift
import kdframe.distillers.sp  # 2019, which images are alike
import kdframe.distillers.vid  # 2019, the maps, sure of some channels
import kdframe.distillers.vkd  # 2024, embeddings through a rotation
